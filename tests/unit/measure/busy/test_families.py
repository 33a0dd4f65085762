"""Names of kernels as profiles of PyTorch on Hopper and Ampere show them."""

import pytest

from peftbench.measure.busy.families import family_of


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("nvjet_tst_192x192_64x4_1x2_h_bz_coopB_TNN", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matmul"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128>", "matmul"),
        ("void gemv2T_kernel_val<int, int, float, float, float, 128>", "matmul"),
        ("triton_tem_fused_addmm_3", "matmul"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob", "attention"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl>", "elementwise"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>", "elementwise"),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 7, false, false>", "elementwise"),
        ("void at::native::reduce_kernel<128, 4, at::native::ReduceOp<float>>", "elementwise"),
        ("triton_per_fused_native_layer_norm_0", "elementwise"),
        ("void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>", "copy"),
        ("void at::native::elementwise_kernel<at::native::bfloat16_copy_kernel_cuda>", "copy"),
        ("void at::native::multi_tensor_apply_kernel<at::native::TensorListMetadata<4>>", "optimizer"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "communication"),
        ("spin_kernel(long)", "other"),
    ],
)
def test_a_name_has_its_family(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_phase_decides_for_kernels_that_anything_could_launch() -> None:
    assert family_of("void at::native::vectorized_elementwise_kernel<4>", phase="optimizer") == "optimizer"
    assert family_of("ncclDevKernel_AllReduce", phase="optimizer") == "communication"
    assert family_of("Memset (Device)", category="gpu_memset", phase="optimizer") == "copy"
