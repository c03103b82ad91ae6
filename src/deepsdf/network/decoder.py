"""The decoder: (code, point) -> signed distance. Knows no meshes and no files.

`deep_sdf_decoder` is the original's network, with its options and its parameters' names;
`encoded_decoder` is the same with a positional encoding of the points and a choice of activation.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepsdf.errors import InputError
from deepsdf.network.dropout import relu_dropout

logger = logging.getLogger(__name__)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": functional.silu,
    "softplus": lambda x: functional.softplus(x, beta=100.0),
}


class WeightNormLinear(nn.Module):
    """A linear layer whose weight is `g * v / |v|` by rows (Salimans and Kingma 2016).

    Written out, because torch's own names of the two parts changed over time and files hold the old ones:
    `bias`, `weight_g` (out, 1), `weight_v` (out, in), in that order.
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
    """Fully connected network of codes and points to signed distances in (-1, 1), negative inside.

    With x0 = [code, features of the point]: layers of `dims` and a last one to 1 value. A layer in `latent_in`
    takes [h, x0], and the layer before it is narrowed so that the width stays. (DeepSDF, CVPR 2019, figure 9.)

    Args:
        code_length: L.
        dims: widths of the hidden layers.
        dropout, dropout_prob: layers followed by dropout, and its probability.
        norm_layers: layers with weight normalisation, or with a LayerNorm where `weight_norm` is false.
        latent_in: layers that x0 enters again.
        xyz_in_all: the point enters every layer.
        use_tanh: one more tanh before the tanh that always ends the network.
        latent_dropout: dropout of 0.2 on the code where it first enters.
        octaves: of the positional encoding: sin and cos of 2^k pi x for k < octaves, beside x itself.
        activation: a name in ACTIVATIONS.
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
            raise InputError(f"NetworkSpecs > activation is {activation!r}; it may be {', '.join(ACTIVATIONS)}")
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
        """The constructor's options: `NetworkSpecs` of specs.json with the architecture "encoded_decoder"."""

    def _build(self, norm_layers: set[int], weight_norm: bool) -> None:
        point_width = 3 + 6 * self.octaves
        first = self.code_length + point_width
        widths = [first, *self.dims, 1]
        last = len(widths) - 2
        if not self.dims or not self.latent_in <= set(range(1, last + 1)):
            raise InputError(
                f"NetworkSpecs: dims {self.dims} and latent_in {sorted(self.latent_in)} do not fit; there must be "
                f"a hidden layer, and latent_in may name layers 1 to {last}"
            )
        for layer in range(last + 1):
            width = widths[layer + 1]
            if layer + 1 in self.latent_in:
                width -= first
            elif self.xyz_in_all and layer != last:
                width -= 3
            if width < 1:
                raise InputError(
                    f"NetworkSpecs: layer {layer} of width {widths[layer + 1]} is too narrow for the code and point "
                    f"({first} values) that enter beside it; raise dims or lower CodeLength"
                )
            normed = layer in norm_layers
            make = WeightNormLinear if normed and weight_norm else nn.Linear
            self.add_module(f"lin{layer}", make(widths[layer], width))
            if normed and not weight_norm:
                self.add_module(f"bn{layer}", nn.LayerNorm(width))

    @property
    def hidden_matrices(self) -> list[nn.Parameter]:
        """The square-like weights between hidden layers: what the Muon optimizer is made for."""
        layers = [self.get_submodule(f"lin{layer}") for layer in range(1, len(self.dims))]
        return [layer.get_parameter("weight") for layer in layers if isinstance(layer, nn.Linear)]

    def folded(self) -> Decoder:
        """A copy that is not for training: weight-normalised layers are plain ones, their norms taken once."""
        plain = copy.deepcopy(self).eval()
        for name, layer in self.named_children():
            if isinstance(layer, WeightNormLinear):
                linear = nn.utils.skip_init(nn.Linear, layer.weight_v.shape[1], layer.weight_v.shape[0])
                linear.weight, linear.bias = nn.Parameter(layer.weight.detach()), nn.Parameter(layer.bias.detach())
                plain.add_module(name, linear)
        return plain.requires_grad_(False)

    def point_features(self, points: Tensor) -> Tensor:
        """The point and its positional encoding: (..., 3) -> (..., 3 + 6 * octaves)."""
        if not self.octaves:
            return points
        octaves = torch.arange(self.octaves, device=points.device, dtype=points.dtype)
        angles = (points.unsqueeze(-1) * (math.pi * 2.0**octaves)).flatten(-2)
        return torch.cat([points, angles.sin(), angles.cos()], dim=-1)

    def forward(self, codes: Tensor, points: Tensor) -> Tensor:
        """Signed distances, unit frame.

        The code's share of a layer is computed once a shape, not once a point.

        Args:
            codes: (b, L), one a shape; or (b, n, L), one a point.
            points: (b, n, 3).
        Returns:
            (b, n), float32.
        """
        return self._evaluate(codes.unsqueeze(-2) if codes.dim() < points.dim() else codes, points, None)

    @torch.enable_grad()
    def jacobian(self, codes: Tensor, points: Tensor, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Signed distances, and their derivatives by the code.

        One backward pass gives the derivatives by what the code adds to each layer that it enters, at every point;
        products with those layers' weights make them derivatives by the code.

        Args:
            codes: (b, L).
            points: (b, n, 3).
            basis: (L, p), directions to derive along; without it the code's own numbers.
        Returns:
            (b, n) and (b, n, p), float32, without gradients.
        """
        shares: dict[int, Tensor] = {}
        distances = self._evaluate(codes.detach().unsqueeze(-2), points.detach(), shares)
        gradients = torch.autograd.grad(distances.sum(), list(shares.values()))
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            weights = [self._code_weight(layer) for layer in shares]
            if basis is not None and distances.numel() >= sum(map(len, weights)):  # the product with fewer rows
                weights, basis = [weight @ basis for weight in weights], None
            parts = [part.float() @ weight for part, weight in zip(gradients, weights, strict=True)]
            found = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            return distances.detach(), found if basis is None else found @ basis

    def _code_weight(self, layer: int) -> Tensor:
        """(out, L), the weight by which the code enters a layer."""
        weight = cast(Tensor, self.get_submodule(f"lin{layer}").weight)
        end = weight.shape[1] - (3 + 6 * self.octaves)
        return weight[:, end - self.code_length : end]

    def _evaluate(self, codes: Tensor, points: Tensor, shares: dict[int, Tensor] | None) -> Tensor:
        """`forward` of codes (b, 1 or n, L); `shares` gets what the code adds to each layer, leaves (b, n, out)."""
        features = self.point_features(points)
        last = len(self.dims)
        x, scale = features, 1.0
        for layer in range(last):
            linear = self.get_submodule(f"lin{layer}")
            assert isinstance(linear, nn.Linear | WeightNormLinear)
            x = self._linear(layer, linear, x, features, codes, points, scale, shares)
            if (norm := self._modules.get(f"bn{layer}")) is not None:
                x = norm(x)
            scale = 1.0
            if layer not in self.dropout or not self.training or self.dropout_prob == 0:
                x = self.activation(x)
            elif self.activation is torch.relu:
                x, scale = relu_dropout(x, self.dropout_prob)
            else:
                x = functional.dropout(self.activation(x), self.dropout_prob)
        return self._head(last, x, features, codes, points, scale, shares)

    def _linear(
        self,
        layer: int,
        linear: nn.Linear | WeightNormLinear,
        x: Tensor,
        features: Tensor,
        codes: Tensor,
        points: Tensor,
        scale: float = 1.0,
        shares: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """A layer's product; `scale` is what `x` lacks, which costs less in the weight."""
        weight = linear.weight

        def shared(columns: Tensor) -> Tensor:
            share = functional.linear(codes, columns, linear.bias)
            if shares is None:
                return share
            return shares.setdefault(layer, share.detach().expand(*points.shape[:-1], -1).requires_grad_())

        if layer == 0:
            if self.latent_dropout and self.training:
                codes = functional.dropout(codes.expand(*points.shape[:-1], -1), 0.2)
            return functional.linear(features, weight[:, self.code_length :]) + shared(weight[:, : self.code_length])
        if layer in self.latent_in:
            from_x = x.shape[-1]
            from_code = from_x + self.code_length
            share = shared(weight[:, from_x:from_code])
            wide = torch.cat([x, features.to(x.dtype)], dim=-1)
            weight = torch.cat([weight[:, :from_x] * scale, weight[:, from_code:]], dim=1)
            return functional.linear(wide, weight) + share
        if self.xyz_in_all:
            from_x = x.shape[-1]
            x = torch.cat([x, points.to(x.dtype)], dim=-1)
            if scale != 1.0:
                weight = torch.cat([weight[:, :from_x] * scale, weight[:, from_x:]], dim=1)
        elif scale != 1.0:
            weight = weight * scale
        if len(weight) == 1:  # a product with a matrix of one row takes longer than a whole layer, going back
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
        shares: dict[int, Tensor] | None,
    ) -> Tensor:
        # In float32 whatever the hidden layers use: a distance of bfloat16's 8 bits is too coarse.
        with torch.autocast(points.device.type, enabled=False):
            linear = self.get_submodule(f"lin{layer}")
            assert isinstance(linear, nn.Linear | WeightNormLinear)
            out = self._linear(layer, linear, x.to(linear.bias.dtype), features, codes, points, scale, shares).squeeze(
                -1
            )
            return torch.tanh(torch.tanh(out) if self.use_tanh else out)


def _deep_sdf_decoder(
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
) -> Decoder:
    return Decoder(
        code_length, dims, dropout, dropout_prob, norm_layers, latent_in, weight_norm, xyz_in_all, use_tanh,
        latent_dropout,
    )  # fmt: skip


NETWORKS: dict[str, Callable[..., Decoder]] = {
    "deep_sdf_decoder": _deep_sdf_decoder,
    "encoded_decoder": Decoder,
}


def build_decoder(arch: str, code_length: int, options: Mapping[str, Any]) -> Decoder:
    """The network that specs.json names: `NetworkArch`, `CodeLength`, `NetworkSpecs`.

    Options that resemble no known one are a descendant's own and are left out with a warning.

    Raises:
        InputError: an unknown architecture, a misspelt, missing or ill-typed option.
    """
    if arch not in NETWORKS:
        raise InputError(f"NetworkArch is {arch!r}; it may be {', '.join(NETWORKS)}")
    known = list(inspect.signature(NETWORKS[arch]).parameters)[1:]
    used = {}
    for name, value in options.items():
        if name in known:
            used[name] = value
        elif near := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8):
            raise InputError(f"NetworkSpecs: unknown key {name!r}; did you mean {near[0]!r}?")
        else:
            logger.warning("NetworkSpecs: the key %r is not known to %s and is ignored", name, arch)
    _check_types(used)
    return NETWORKS[arch](code_length, **used)


_LISTS = {"dims", "dropout", "norm_layers", "latent_in"}
_FLAGS = {"weight_norm", "xyz_in_all", "use_tanh", "latent_dropout"}


def _check_types(options: Mapping[str, Any]) -> None:
    if not options.get("dims"):
        raise InputError("NetworkSpecs: the key 'dims' is missing; it lists the hidden layers' widths")
    for name, value in options.items():
        if value is None and name in (_LISTS | _FLAGS) - {"dims"}:
            continue
        if name in _LISTS:
            good = isinstance(value, list | tuple) and all(type(item) is int and item >= 0 for item in value)
            wanted = "a list of whole numbers"
        elif name in _FLAGS:
            good, wanted = isinstance(value, bool), "true or false"
        elif name == "octaves":
            good, wanted = type(value) is int and 0 <= value <= 16, "a whole number from 0 to 16"
        elif name == "dropout_prob":
            good, wanted = isinstance(value, int | float) and 0 <= value < 1, "a number from 0 to below 1"
        else:
            good, wanted = isinstance(value, str), f"one of {', '.join(ACTIVATIONS)}"
        if not good:
            raise InputError(f"NetworkSpecs > {name} is {value!r}; it must be {wanted}")


def load_weights(decoder: Decoder, weights: Mapping[str, Tensor], where: str) -> None:
    """Put a checkpoint's parameters into a decoder, whichever names they were saved under.

    Known are names with and without DataParallel's `module.`, and both of torch's namings of weight norm.

    Raises:
        InputError: the checkpoint is of another architecture; says which parameters differ.
    """
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("module.")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[name.replace("parametrizations.weight.original1", "weight_v")] = value
    own = decoder.state_dict()
    faults = [f"{name} is missing" for name in own if name not in renamed]
    faults += [f"{name} is not in this network" for name in renamed if name not in own]
    faults += [
        f"{name} has shape {tuple(renamed[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in renamed and renamed[name].shape != value.shape
    ]
    if faults:
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise InputError(f"{where} is of another architecture than specs.json describes: {shown}")
    decoder.load_state_dict(renamed)
