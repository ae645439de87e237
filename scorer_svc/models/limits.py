"""Say how much a graph may compute by default."""

MULTIPLY_ADDS_MAX = 4_000_000_000  # for one sample: twice a ResNet-18 on 224x224, a second or so of one core
