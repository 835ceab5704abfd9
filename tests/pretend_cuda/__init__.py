"""A CUDA device that is none: it runs the code for GPUs, unchanged, where there is only a CPU build of torch.

Its tensors say `cuda:0` or `cuda:1`, their data lies in ordinary memory, and it is as unpleasant as a GPU is
allowed to be:

- Everything put on a stream is carried out as late as possible: when the host asks for a result, or waits
  for an event. With a `Haste` the streams beside the default one run ahead of it as far as events let them,
  or the other way round. So where a wait is missing there is an order in which numbers are wrong.
- Pinned memory is read when the copy is carried out, not when it is asked for. Fresh memory holds NaN.
- Memory given back while another stream still has to use it is a fault, and so is memory that another stream
  uses before the one that it was taken on is done with what it held then. The fixtures report faults.
- Operands on different devices, and host code that reaches into device memory, raise what CUDA raises. What
  makes the host wait is counted, and raises under `torch.cuda.set_sync_debug_mode("error")`.
- float32 products are rounded to TF32 where the process' settings allow that.

What it cannot see: kernels that a GPU lacks for some type, how a GPU's own kernels round, limits on launches,
the cost of anything. Those take a GPU: `pytest -m gpu -n 0`.

From the bottom up: `timeline` (streams), `blocks` (memory), `machine`, `indexing`, `tensor`, `copies`,
`operators`, `shapes`,
`products`, `kernels` (every operator that is no copy), `graphs`, `api` (what stands in for
torch.cuda), `fixtures`.
"""
