"""The first network's shapes and its two promises: air pads, and presence does not move the points."""

import torch
from torch.testing import assert_close

from vertebra_core.curve.network import MULTIPLE, STRIDE, CurveNetwork, soft_argmax
from vertebra_core.curve.slabs import HALO, SLAB, CurveNetworkInSlabs


def network() -> CurveNetwork:
    torch.manual_seed(0)
    return CurveNetwork((4, 6, 8, 10)).eval()


def test_one_point_and_one_logit_per_output_slice():
    said = network()(torch.rand(2, 2, 2 * MULTIPLE, MULTIPLE, 3 * MULTIPLE))
    assert said.points.shape == (2, 2 * MULTIPLE // STRIDE, 2)
    assert said.presence.shape == (2, 2 * MULTIPLE // STRIDE)


def test_points_are_x_then_y_in_input_voxels():
    net = network()
    features = torch.zeros(1, 4, 3, 8, 12)
    features[0, 0, :, 5, 7] = 1.0
    net.unet = torch.nn.Module()
    net.unet.forward = lambda x, apply: features
    with torch.no_grad():
        net.attention.weight.zero_()
        net.attention.weight[0, 0] = 100.0
    assert_close(net(torch.zeros(1)).points[0], torch.tensor([[7.0, 5.0]] * 3) * STRIDE)


def test_soft_argmax_is_the_mean_index():
    assert_close(soft_argmax(torch.tensor([[0.0, 1, 0], [0.5, 0, 0.5], [0.25, 0.25, 0.5]])), torch.tensor([1, 1, 1.25]))


def test_presence_sends_no_gradient_into_the_map():
    net = network()
    net(torch.rand(1, 2, MULTIPLE, MULTIPLE, MULTIPLE)).presence.sum().backward()
    assert net.attention.weight.grad is None
    assert net.unet.stem.weight.grad is not None


def test_points_send_gradient_into_the_map():
    net = network()
    net(torch.rand(1, 2, MULTIPLE, MULTIPLE, MULTIPLE)).points.sum().backward()
    assert net.attention.weight.grad is not None
    assert net.attention.weight.grad.abs().sum() > 0


def test_the_default_network_stays_small():
    """Five megabytes of float32 at most, so that weights may lie in the repository."""
    assert sum(p.numel() for p in CurveNetwork().parameters()) * 4 < 5e6


def test_slabs_give_what_the_whole_gives():
    """Slices enough for five slabs, and a last one that is not full; the tolerance is the rounding of float32."""
    whole, x = network(), torch.randn(1, 2, 9 * MULTIPLE, 2 * MULTIPLE, MULTIPLE)
    with torch.inference_mode():
        wanted, found = whole(x), CurveNetworkInSlabs.sharing(whole)(x)
    assert_close(found.points, wanted.points, atol=1e-4, rtol=0)
    assert_close(found.presence, wanted.presence, atol=1e-5, rtol=0)


def test_only_slabs_are_on_the_device():
    whole, most = network(), []
    whole.unet.levels[0].register_forward_hook(lambda module, given, told: most.append(given[0].shape[2]))
    with torch.inference_mode():
        CurveNetworkInSlabs.sharing(whole)(torch.zeros(1, 2, 9 * MULTIPLE, MULTIPLE, MULTIPLE))
    assert len(most) == 5
    assert max(most) == SLAB + 2 * HALO
