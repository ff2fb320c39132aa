"""What both wings raise on purpose. Each is a sentence for the reader and a `code` for programs."""


class HeimdallError(Exception):
    """The base: `str(error)` is a sentence, `error.code` names the kind."""

    code = "error"


class InvalidInput(HeimdallError):
    """Input was refused; `fields` maps a field's name to its messages."""

    code = "invalid"

    def __init__(self, fields: dict[str, list[str]]):
        self.fields = fields
        super().__init__("; ".join(f"{name}: {' '.join(messages)}" for name, messages in fields.items()))

    @property
    def sentences(self) -> str:
        """Without the names of the fields, for people who have them before their eyes."""
        return " ".join(message for messages in self.fields.values() for message in messages)


class InvalidConfig(InvalidInput):
    """A recipe's config was refused."""

    code = "invalid_config"


class UnknownRecipe(InvalidInput):
    """No recipe has this name."""

    code = "unknown_recipe"

    def __init__(self, name: str, known: list[str]):
        shown = ", ".join(known) or "none"
        super().__init__({"recipe": [f"There is no recipe {name!r}. Choose one of: {shown}."]})
