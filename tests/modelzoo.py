"""Small models of the kinds that users bring, for tests that ask what a model is made of."""

from __future__ import annotations

import torch
from torch import nn


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, 2, bias=False)
        self.query = nn.Linear(width, 2, bias=False)


class Block(nn.Module):
    """With heads and experts in lists of their own, as textbooks have them."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList([Head(width), Head(width)])
        self.experts = nn.ModuleList([Mlp(width), Mlp(width)])


class Gpt(nn.Module):
    """Embeddings, blocks, a norm and a tied output layer."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(9, 4)
        self.positions = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.last_norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 9, bias=False)
        if tied:
            self.out.weight = self.tokens.weight


class Vit(nn.Module):
    """Parameters of its own, as well as blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.patches = nn.Conv2d(1, 4, 2)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(4)
        self.classifier = nn.Linear(4, 3)


class Residual(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, out, 3), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3), nn.BatchNorm2d(out)


class Stage(nn.Module):
    """As ConvNeXt's: a downsampling of norm and convolution, then blocks."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.BatchNorm2d(inside), nn.Conv2d(inside, out, 2))
        self.blocks = nn.Sequential(Residual(out, out), Residual(out, out))


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.stages = nn.Sequential(Stage(2, 4), Stage(4, 8))
        self.head = nn.ModuleDict({"norm": nn.BatchNorm2d(8), "fc": nn.Linear(8, 3)})


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.conv2 = nn.Conv2d(2, 4, 3)
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 3)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4, sparse=True)
        self.lstm = nn.LSTM(4, 4, num_layers=2)
        self.fc = nn.Linear(4, 3)


class Named(nn.Module):
    """Says what its head is, though others stand behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2)

    def get_classifier(self) -> nn.Module:
        return self.answer


class RMSNormOfOurs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class ParallelEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(9, 4))


def features_and_classifier() -> nn.Module:
    """Two containers in one: nothing is repeated."""
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3))
    return nn.Sequential(features, nn.Flatten(), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))


def transformer() -> nn.Module:
    """torch's own, without a head."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, dropout=0.0), 2, enable_nested_tensor=False)


def small_stages() -> nn.Module:
    """As EfficientNet's: stages of one block and of several."""
    stages = [[Residual(2, 2)], [Residual(2, 4), Residual(4, 4)], [Residual(4, 4), Residual(4, 4)]]
    body = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))
    return nn.ModuleDict({"stem": nn.Conv2d(1, 2, 3), "body": body, "fc": nn.Linear(4, 3)})
