"""What the engine will not do, in a sentence for the reader and a code for programs."""


class Refused(ValueError):
    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
