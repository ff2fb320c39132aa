"""A Hugging Face Trainer: a tiny BERT learns which half of a vocabulary a text begins in. One line is ours."""

import argparse
import random
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import heimdall


class Texts(Dataset):
    """Texts of which a word is masked now and then, anew each time."""

    def __init__(self, size: int, *, masks: bool) -> None:
        self.words = torch.randint(5, 100, (size, 12), generator=torch.Generator().manual_seed(1))
        self.masks = masks

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int):
        words = self.words[index].clone()
        if self.masks and random.random() < 0.5:
            words[torch.randint(1, 12, (1,))] = 4
        return {"input_ids": words, "labels": int(self.words[index, 0] > 50)}


parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0, help="processes that load data")
workers = parser.parse_args().workers

random.seed(3)
torch.manual_seed(3)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
model = BertForSequenceClassification(BertConfig(vocab_size=100, max_position_embeddings=16, **sizes))
arguments = TrainingArguments(
    tempfile.mkdtemp(),
    num_train_epochs=3,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=3,
    learning_rate=1e-3,
    logging_steps=2,
    eval_strategy="epoch",
    save_strategy="no",
    dataloader_num_workers=workers,
    report_to=[],
    disable_tqdm=True,
    use_cpu=not torch.cuda.is_available(),
)
trainer = Trainer(
    model=model, args=arguments, train_dataset=Texts(100, masks=True), eval_dataset=Texts(32, masks=False)
)
trainer = heimdall.attach(trainer)
trainer.train()
