// SPDX-License-Identifier: GPL-3.0-or-later
// Residuals on the device: from rays W x to what SIRT and HEBT, or EM, project back; a thread does
// one ray of one slice.
//
// Rays are (channel, tilt, u, y) in pixels of one voxel. Data, and `seen`, what the detector sees
// of the rays, are in its pixels of binning x binning voxels. Sums over all rays go to `partial`,
// (sum, block), for the host to add up; each pixel counts as often as it has voxels.

// Place of a ray among the pixels of one channel.
__device__ inline long long pixel_of(long long tilt, int u, int slice, int nu, int slices, int binning) {
    return (tilt * (nu / binning) + u / binning) * (slices / binning) + slice / binning;
}

// With e_c = p_c - g_c W x_c of the channels that have data, and f = h - g_h sum_c r_c W x_c of the
// HAADF, the rays of channel c become direct_c R e_c + mix_c R_h f. `haadf` is null where there is
// no sum; `seen` is null where pixels are voxels. The sums are those of e_c^2 and, last, f^2.
extern "C" __global__ void mix_residuals(float *rays, const float *seen, const float *data, const float *haadf,
                                         const float *weights, const float *haadf_weights, const float *gains,
                                         const float *haadf_gains, const float *direct, const float *mix, const float *ratios,
                                         int channels, int with_data, int nt, int nu, int slices, int binning, double *partial) {
    const long long n = (long long)blockIdx.x * BLOCK + threadIdx.x, all = (long long)nt * nu * slices;
    const bool inside = n < all;
    const int slice = (int)(n % slices), u = (int)(n / slices % nu), tilt = inside ? (int)(n / slices / nu) : 0;
    const long long pixel = pixel_of(tilt, u, slice, nu, slices, binning), pixels = all / (binning * binning);
    float f = 0.0f, mixed = 0.0f;
    if (inside && haadf) {
        for (int c = 0; c < channels; ++c) f = fmaf(ratios[c], rays[c * all + n], f);
        f = fmaf(-haadf_gains[tilt], f, haadf[n]);
        mixed = haadf_weights[tilt * nu + u];
    }
    const float weight = inside ? weights[tilt * (nu / binning) + u / binning] : 0.0f;
    for (int c = 0; c < channels; ++c) {
        float e = 0.0f;
        if (inside) {
            float total = mixed * mix[c] * f;
            if (c < with_data) {
                const float y = seen ? seen[c * pixels + pixel] : rays[c * all + n];
                e = fmaf(-gains[c * nt + tilt], y, data[c * pixels + pixel]);
                total = fmaf(weight * direct[c], e, total);
            }
            rays[c * all + n] = total;
        }
        if (c < with_data) block_sum((double)e * e, partial + (long long)c * gridDim.x + blockIdx.x);
    }
    block_sum((double)f * f, partial + (long long)with_data * gridDim.x + blockIdx.x);
}

// The rays become g (y/m - 1), with y the counts and m = g W x + b, b the background or null; no m
// is taken to be below `least`. The sums are, of each channel, those of (y - m)^2 and of y log(y/m)
// - y + m where g > 0. A block is in one channel, blockIdx.y.
extern "C" __global__ void count_residuals(float *rays, const float *seen, const float *counts, const float *background,
                                           const float *gains, float least, int nt, int nu, int slices, int binning,
                                           double *partial) {
    const long long n = (long long)blockIdx.x * BLOCK + threadIdx.x, all = (long long)nt * nu * slices, c = blockIdx.y;
    double square = 0.0, divergence = 0.0;
    if (n < all) {
        const int slice = (int)(n % slices), u = (int)(n / slices % nu), tilt = (int)(n / slices / nu);
        const long long pixel = c * (all / (binning * binning)) + pixel_of(tilt, u, slice, nu, slices, binning);
        const float gain = gains[c * nt + tilt], y = counts[pixel];
        float m = gain * (seen ? seen[pixel] : rays[c * all + n]);
        if (background) m += background[pixel];
        const float ratio = y / fmaxf(m, least), e = y - m;
        rays[c * all + n] = fmaf(gain, ratio, -gain);
        if (gain > 0.0f) {
            square = (double)e * e;
            divergence = (ratio > 0.0f ? (double)y * logf(ratio) : 0.0) - e;
        }
    }
    block_sum(square, partial + 2 * c * gridDim.x + blockIdx.x);
    block_sum(divergence, partial + (2 * c + 1) * gridDim.x + blockIdx.x);
}

// total (z, x, y) = sum_c r_c x_c.
extern "C" __global__ void sum_channels(const float *volume, float *total, const float *ratios, int channels, long long voxels) {
    const long long n = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (n >= voxels) return;
    float sum = 0.0f;
    for (int c = 0; c < channels; ++c) sum = fmaf(ratios[c], volume[c * voxels + n], sum);
    total[n] = sum;
}
