"""Vision transformer of the published sweep: SimpleViT with few heads and a wide embedding."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from src.data.spec import CIFAR10, DataSpec
from src.models import register
from src.models.classifier import Classifier


def sincos_positions(side: int, dim: int, temperature: float = 10_000) -> Tensor:
    """Fixed 2-D sine-cosine embeddings (side * side, dim) of a square of patches.

    Beyer et al. 2022, https://arxiv.org/abs/2205.01580.
    """
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    frequency = temperature ** -(torch.arange(dim // 4) / (dim // 4 - 1))
    x, y = (axis.reshape(-1, 1) * frequency for axis in (x, y))
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1)


class Attention(nn.Module):
    """Pre-norm multi-head self-attention; no biases in its projections."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.to_qkv(self.norm(x)).view(batch, tokens, 3, self.heads, self.dim_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, d) each
        out = scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).reshape(batch, tokens, -1))


class Block(nn.Module):
    """A transformer layer: attention, then an MLP, each with its residual."""

    def __init__(self, dim: int, heads: int, dim_head: int, mlp_dim: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dim_head)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


@register("vit")
class ViT(Classifier):
    """92,502,122 parameters. lucidrains/vit-pytorch's SimpleViT with the sweep's sizes."""

    patch = 4

    evaluation_batch: Mapping[str, int] = {
        "cpu": 250,
        "cuda": 500,
    }  # its residual stream: 262 MB on a GPU

    def __init__(self, data: DataSpec = CIFAR10) -> None:
        super().__init__()
        self.side = data.size // self.patch
        dim, depth, heads, dim_head, mlp_dim = 2048, 8, 6, 64, 2048
        patch_dim = data.channels * self.patch**2
        self.embed = nn.Sequential(
            nn.LayerNorm(patch_dim), nn.Linear(patch_dim, dim), nn.LayerNorm(dim)
        )
        self.positions: Tensor
        with torch.device("cpu"):  # on the meta device, arithmetic imports all of dynamo
            positions = sincos_positions(self.side, dim)
        positions = positions.to(torch.get_default_device())
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.Sequential(*(Block(dim, heads, dim_head, mlp_dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, len(data.classes))

    def features(self, x: Tensor) -> Tensor:
        x = x.unflatten(2, (self.side, self.patch)).unflatten(4, (self.side, self.patch))
        x = x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, patches, pixels), row by row
        x = self.embed(x) + self.positions  # (B, patches, dim)
        return self.norm(self.blocks(x)).mean(dim=1)  # (B, dim)
