"""torchvision's ResNet-18 on CIFAR-10: images enlarged as ImageNet's are, and a new last layer."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier

SIDE = 224


@register("resnet18_transfer")
class ResNet18Transfer(Classifier):
    """11,181,642 parameters. He et al. 2016, https://arxiv.org/abs/1512.03385, as in torchvision.

    Frozen, its backbone does not learn and stays in evaluation mode.
    """

    evaluation_batch: Mapping[str, int] = {
        "cpu": 250,
        "cuda": 100,
    }  # its first activation: 321 MB on a GPU

    def __init__(self, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        from torchvision.models import resnet18  # seconds to import

        self.backbone: nn.Module = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.head = nn.Linear(512, len(data.classes))

    def train(self, mode: bool = True) -> "ResNet18Transfer":
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1)  # grey: three equal channels, as its weights expect
        x = interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.backbone(x)  # (B, 512)
