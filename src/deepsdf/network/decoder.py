"""The decoder: a network that maps latent codes and points to signed distances.

Parameter names and their order are those of the original (facebookresearch/DeepSDF). Positional encoding and the choice
of activation are additions. `deepsdf.network.networks` registers networks by name.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepsdf.errors import InputError
from deepsdf.network.dropout import relu_dropout


def _softplus(x: Tensor) -> Tensor:
    """Softplus with β = 100, close to ReLU but smooth: the activation of IGR (Gropp et al., ICML 2020)."""
    return functional.softplus(x, beta=100.0)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": functional.silu,
    "softplus": _softplus,
}


MAXIMUM_OCTAVES = 16
"""Largest number of octaves of the positional encoding: 2^16 periods per unit length, beyond which float32 coordinates
have fewer than 2^8 values per period."""


class WeightNormLinear(nn.Module):
    """A linear layer with weight normalisation: each row of the weight is g · v / |v| (Salimans and Kingma 2016).

    Implemented here because torch renamed the parameters over time, while checkpoints hold the old names and order:
    `bias`, `weight_g` (out, 1), `weight_v` (out, in).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        plain = nn.Linear(in_features, out_features)
        self.bias = nn.Parameter(plain.bias.detach())
        self.weight_g = nn.Parameter(plain.weight.detach().norm(dim=1, keepdim=True))
        self.weight_v = nn.Parameter(plain.weight.detach())

    @property
    def weight(self) -> Tensor:
        return self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True))


class Decoder(nn.Module):
    """Fully connected network from latent codes and points to signed distances in (-1, 1), negative inside.

    The input is x0 = [code, point features]. A layer in `latent_in` takes [h, x0]; the layer before it is narrowed by
    the width of x0, so that the total width is still the one in `dims` (DeepSDF, CVPR 2019, figure 9). For
    `latent_in=[2]`:

        x0 ─ lin0 ─ h ─ lin1 ─ [h, x0] ─ lin2 ─ h ─ ... ─ lin(n) ─ tanh ─ distance

    A plain module: it works under `torch.compile(fullgraph=True)` and, in evaluation mode, under the transforms of
    `torch.func`. Outputs are differentiable by codes, points and parameters, twice if the activation is.

    Args:
        code_length: length L of a code.
        dims: widths of the hidden layers.
        dropout, dropout_prob: layers followed by dropout, and its probability.
        norm_layers: layers with weight normalisation, or with a LayerNorm if `weight_norm` is false.
        latent_in: layers that x0 enters again, from 1 to len(dims).
        weight_norm: normalise weights instead of activations in `norm_layers`.
        xyz_in_all: whether the point enters every layer.
        use_tanh: whether to apply an additional tanh before the final one.
        latent_dropout: whether to apply dropout of 0.2 to the code where it first enters.
        octaves: frequencies of the positional encoding: features are x, sin(2^k π x) and cos(2^k π x) for k < octaves.
        activation: a name in `ACTIVATIONS`.
    Raises:
        InputError: options that do not fit together.
    """

    def __init__(
        self,
        code_length: int,
        dims: Sequence[int],
        dropout: Sequence[int] | None = None,
        dropout_prob: float = 0.0,
        norm_layers: Sequence[int] | None = (),
        latent_in: Sequence[int] | None = (),
        weight_norm: bool = False,
        xyz_in_all: bool | None = None,
        use_tanh: bool = False,
        latent_dropout: bool = False,
        *,
        octaves: int = 0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InputError(f"NetworkSpecs > activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if not 0 <= octaves <= MAXIMUM_OCTAVES:
            raise InputError(f"NetworkSpecs > octaves is {octaves}; expected an integer from 0 to {MAXIMUM_OCTAVES}")
        if not 0 <= dropout_prob < 1:
            raise InputError(f"NetworkSpecs > dropout_prob is {dropout_prob}; expected a number from 0 to below 1")
        self.code_length = code_length
        self.dims = list(dims)
        self.dropout = set(dropout or ())
        self.dropout_prob = dropout_prob
        self.latent_in = set(latent_in or ())
        self.xyz_in_all = bool(xyz_in_all)
        self.use_tanh = use_tanh
        self.latent_dropout = latent_dropout
        self.octaves = octaves
        self.activation = ACTIVATIONS[activation]
        self._build(set(norm_layers or ()), weight_norm)
        self.network_specs: dict[str, Any] = {
            "dims": self.dims, "dropout": sorted(self.dropout), "dropout_prob": dropout_prob,
            "norm_layers": sorted(norm_layers or ()), "latent_in": sorted(self.latent_in), "weight_norm": weight_norm,
            "xyz_in_all": self.xyz_in_all, "use_tanh": use_tanh, "latent_dropout": latent_dropout,
            "octaves": octaves, "activation": activation,
        }  # fmt: skip
        """Arguments of the constructor: the key `NetworkSpecs` of specs.json."""
        self.network_arch = "encoded_decoder"
        """Name in `deepsdf.network.networks.NETWORKS` that accepts all of `network_specs`."""

    def _build(self, norm_layers: set[int], weight_norm: bool) -> None:
        point_width = 3 + 6 * self.octaves
        first = self.code_length + point_width
        widths = [first, *self.dims, 1]
        last = len(widths) - 2
        if not self.dims or not self.latent_in <= set(range(1, last + 1)):
            raise InputError(
                f"NetworkSpecs: dims {self.dims} and latent_in {sorted(self.latent_in)} do not fit together; expected "
                f"at least one hidden layer, and latent_in between 1 and {last}"
            )
        for layer in range(last + 1):
            # Values that enter the next layer beside the hidden units are part of the width in `dims`.
            beside, source = 0, ""
            if layer + 1 in self.latent_in:
                beside, source = first, "the code and the point"
            elif self.xyz_in_all and layer != last:
                beside, source = 3, "the point"
            width = widths[layer + 1] - beside
            if width < 1:
                raise InputError(
                    f"NetworkSpecs: the width {widths[layer + 1]} of layer {layer} includes {beside} values of "
                    f"{source}; no hidden units remain, so increase it in dims"
                )
            normed = layer in norm_layers
            make = WeightNormLinear if normed and weight_norm else nn.Linear
            self.add_module(f"lin{layer}", make(widths[layer], width))
            if normed and not weight_norm:
                self.add_module(f"bn{layer}", nn.LayerNorm(width))

    @property
    def hidden_matrices(self) -> list[nn.Parameter]:
        """Weight matrices between hidden layers, for the Muon optimizer; those with weight norm are left out."""
        layers = [self.get_submodule(f"lin{layer}") for layer in range(1, len(self.dims))]
        return [layer.get_parameter("weight") for layer in layers if isinstance(layer, nn.Linear)]

    def folded(self) -> Decoder:
        """A frozen copy for evaluation in which weight-normalised layers are replaced by plain linear ones."""
        plain = copy.deepcopy(self).eval()
        for name, layer in self.named_children():
            if isinstance(layer, WeightNormLinear):
                linear = nn.utils.skip_init(nn.Linear, layer.weight_v.shape[1], layer.weight_v.shape[0])
                linear.weight, linear.bias = nn.Parameter(layer.weight.detach()), nn.Parameter(layer.bias.detach())
                plain.add_module(name, linear)
        return plain.requires_grad_(False)

    def point_features(self, points: Tensor) -> Tensor:
        """Coordinates and positional encoding: (..., 3) -> (..., 3 + 6 * octaves)."""
        if not self.octaves:
            return points
        octaves = torch.arange(self.octaves, device=points.device, dtype=points.dtype)
        angles = (points.unsqueeze(-1) * (math.pi * 2.0**octaves)).flatten(-2)
        return torch.cat([points, angles.sin(), angles.cos()], dim=-1)

    def forward(self, codes: Tensor, points: Tensor) -> Tensor:
        """Signed distances, unit frame, negative inside.

        W [h, z] = W_h h + W_z z: the term of the code is computed once per shape, not once per point.

        Args:
            codes: (b, L), one per shape, or (b, n, L), one per point. The batch dimension may be missing.
            points: (b, n, 3), unit frame.
        Returns:
            (b, n), in the type of the parameters (float32 under autocast).
        """
        return self._evaluate(codes.unsqueeze(-2) if codes.dim() < points.dim() else codes, points, None)

    @torch.enable_grad()
    def jacobian(self, codes: Tensor, points: Tensor, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Signed distances and their derivatives by the code, by one backward pass for all points.

        The code z enters layer k as the term t_k = W_k z + bias, so df/dz = Σ_k (df/dt_k) W_k. Since the distance at a
        point depends only on the terms at that point, the gradient of Σ f by the terms holds df/dt_k for every point.

        Args:
            codes: (b, L).
            points: (b, n, 3).
            basis: (L, p), directions of the derivatives as columns; by default the coordinate axes of the code.
        Returns:
            Distances (b, n) and derivatives (b, n, p), detached, in the type of the parameters.
        """
        terms: dict[int, Tensor] = {}
        distances = self._evaluate(codes.detach().unsqueeze(-2), points.detach(), terms)
        gradients = torch.autograd.grad(distances.sum(), list(terms.values()))
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            weights = [self._code_weight(layer) for layer in terms]
            # G (W B) = (G W) B: multiply the matrix with fewer rows by the basis, W (all its layers) or G W.
            if basis is not None and distances.numel() >= sum(map(len, weights)):
                weights, basis = [weight @ basis for weight in weights], None
            parts = [part.to(distances.dtype) @ weight for part, weight in zip(gradients, weights, strict=True)]
            derivatives = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            return distances.detach(), derivatives if basis is None else derivatives @ basis

    def _code_weight(self, layer: int) -> Tensor:
        """Columns (out, L) of a layer's weight that multiply the code."""
        weight = cast(Tensor, self.get_submodule(f"lin{layer}").weight)
        end = weight.shape[1] - (3 + 6 * self.octaves)
        return weight[:, end - self.code_length : end]

    def _evaluate(self, codes: Tensor, points: Tensor, terms: dict[int, Tensor] | None) -> Tensor:
        """`forward` for codes (b, 1 or n, L).

        Args:
            terms: receives the term of the code in each layer that it enters, as leaves (b, n, out) of the graph.
        """
        features = self.point_features(points)
        last = len(self.dims)
        x, scale = features, 1.0
        for layer in range(last):
            linear = self.get_submodule(f"lin{layer}")
            assert isinstance(linear, nn.Linear | WeightNormLinear)
            x = self._linear(layer, linear, x, features, codes, points, scale, terms)
            if (norm := self._modules.get(f"bn{layer}")) is not None:
                x = norm(x)
            scale = 1.0
            if layer not in self.dropout or not self.training or self.dropout_prob == 0:
                x = self.activation(x)
            elif self.activation is torch.relu:
                x, scale = relu_dropout(x, self.dropout_prob)
            else:
                x = functional.dropout(self.activation(x), self.dropout_prob)
        return self._head(last, x, features, codes, points, scale, terms)

    def _linear(
        self,
        layer: int,
        linear: nn.Linear | WeightNormLinear,
        x: Tensor,
        features: Tensor,
        codes: Tensor,
        points: Tensor,
        scale: float = 1.0,
        terms: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """Output of a linear layer. `x` still has to be multiplied by `scale`, which is cheaper on the weight."""
        weight = linear.weight

        def code_term(columns: Tensor) -> Tensor:
            term = functional.linear(codes, columns, linear.bias)
            if terms is None:
                return term
            return terms.setdefault(layer, term.detach().expand(*points.shape[:-1], -1).requires_grad_())

        if layer == 0:
            if self.latent_dropout and self.training:
                codes = functional.dropout(codes.expand(*points.shape[:-1], -1), 0.2)
            return functional.linear(features, weight[:, self.code_length :]) + code_term(weight[:, : self.code_length])
        if layer in self.latent_in:
            from_x = x.shape[-1]
            from_code = from_x + self.code_length
            term = code_term(weight[:, from_x:from_code])
            wide = torch.cat([x, features.to(x.dtype)], dim=-1)
            weight = torch.cat([weight[:, :from_x] * scale, weight[:, from_code:]], dim=1)
            return functional.linear(wide, weight) + term
        if self.xyz_in_all:
            from_x = x.shape[-1]
            x = torch.cat([x, points.to(x.dtype)], dim=-1)
            if scale != 1.0:
                weight = torch.cat([weight[:, :from_x] * scale, weight[:, from_x:]], dim=1)
        elif scale != 1.0:
            weight = weight * scale
        if len(weight) == 1:  # matrix-vector: the backward pass of a matrix product with one row is slower than a layer
            return (x @ weight[0] + linear.bias).unsqueeze(-1)
        return functional.linear(x, weight, linear.bias)

    def _head(
        self,
        layer: int,
        x: Tensor,
        features: Tensor,
        codes: Tensor,
        points: Tensor,
        scale: float,
        terms: dict[int, Tensor] | None,
    ) -> Tensor:
        # Not in bfloat16 under autocast: its 8 significant bits are too coarse for a distance.
        with torch.autocast(points.device.type, enabled=False):
            linear = self.get_submodule(f"lin{layer}")
            assert isinstance(linear, nn.Linear | WeightNormLinear)
            out = self._linear(layer, linear, x.to(linear.bias.dtype), features, codes, points, scale, terms)
            out = out.squeeze(-1)
            return torch.tanh(torch.tanh(out) if self.use_tanh else out)
