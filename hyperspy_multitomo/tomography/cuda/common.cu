// SPDX-License-Identifier: GPL-3.0-or-later
// Sums over a block and over blocks, always in the same order, so that two runs give the same bits.

#define BLOCK 256  // threads of every block

// Write the sum of the values of all threads of the block to *target. Every thread of the block has
// to call it.
__device__ inline void block_sum(double value, double *target) {
    __shared__ double values[BLOCK];
    const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    __syncthreads();  // what an earlier call left has been read
    values[t] = value;
    __syncthreads();
    if (t < 16) {
        double sum = 0.0;
        for (int k = t; k < BLOCK; k += 16) sum += values[k];
        values[t] = sum;
    }
    __syncthreads();
    if (t == 0) {
        double sum = 0.0;
        for (int k = 0; k < 16; ++k) sum += values[k];
        *target = sum;
    }
}

// sums[row] = the sum of partial[row, :], one block per row.
extern "C" __global__ void sum_partials(const double *partial, long long blocks, double *sums) {
    double sum = 0.0;
    for (long long k = threadIdx.x; k < blocks; k += BLOCK) sum += partial[blockIdx.x * blocks + k];
    block_sum(sum, sums + blockIdx.x);
}
