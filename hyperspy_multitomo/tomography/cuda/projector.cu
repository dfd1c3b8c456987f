// SPDX-License-Identifier: GPL-3.0-or-later
// Joseph's projector pair on the device: the weights of tomography/cpu/kernels.py, both ways,
// slices y fastest.
//
// Volumes are (channel, z, x, y), rays (channel, tilt, u, y). A block has blockDim.x lanes, which
// take slices, and blockDim.y rows of them, each a ray or a voxel; a thread does up to SLICES
// slices with one weight. `table` holds per tilt cos t, sin t and the detector coordinate of voxel
// (0, 0). Positions start from bases in double precision, one for every RUN rays or voxels, and go
// on from their fractions in single precision, which places them to 2e-6 px.

#define SLICES 4
#define RUN 16

// Rays (u, y) of one tilt, one channel and blockDim.x * SLICES slices: y = W x.
extern "C" __global__ void project(const float *__restrict__ volume, float *__restrict__ rays, const double *table, float length,
                                   int nz, int nx, int nt, int nu, int slices) {
    __shared__ int whole[BLOCK];
    __shared__ float fraction[BLOCK];
    const int ray_blocks = (nu + blockDim.y - 1) / blockDim.y;
    const int tilt = blockIdx.x / ray_blocks, first_ray = blockIdx.x % ray_blocks * blockDim.y;
    const int ray = first_ray + threadIdx.y, slice = blockIdx.y * blockDim.x * SLICES + threadIdx.x;
    const int runs = (blockDim.y + RUN - 1) / RUN, batch = BLOCK / runs;
    double c = table[3 * tilt], s = table[3 * tilt + 1];
    const double origin = table[3 * tilt + 2];
    // Rows along x for tilts up to 45 degrees, along z for the others.
    const bool steep = fabs(c) < fabs(s);
    if (steep) {
        const double swap = c;
        c = s;
        s = swap;
    }
    const int rows = steep ? nx : nz, along = steep ? nz : nx;
    const long long next_row = steep ? slices : (long long)nx * slices, next_voxel = steep ? (long long)nx * slices : slices;
    const float *plane = volume + (long long)blockIdx.z * nz * nx * slices + slice;
    const float step = (float)(1.0 / c), weight = (float)(length / fabs(c));
    const bool inside = ray < nu && slice < slices;
    float near_sum[SLICES] = {}, far_sum[SLICES] = {};
    for (int start = 0; start < rows; start += batch) {
        const int count = min(batch, rows - start), entry = threadIdx.x + blockDim.x * threadIdx.y;
        __syncthreads();
        if (entry < count * runs) {
            const double position = ((first_ray / RUN + entry % runs) * RUN - origin - (start + entry / runs) * s) / c;
            const double below = floor(position);
            whole[entry] = (int)below;
            fraction[entry] = (float)(position - below);
        }
        __syncthreads();
        if (!inside) continue;
        for (int row = 0; row < count; ++row) {
            const int of_run = row * runs + ray / RUN - first_ray / RUN, base = whole[of_run];
            const float q = fraction[of_run] + (float)(ray % RUN) * step;
            const int voxel = min(max((int)floorf(q), -base), along - 2 - base);
            const float d = q - (float)voxel;
            const float near = fmaxf(0.0f, 1.0f - fabsf(d)) * weight, far = fmaxf(0.0f, 1.0f - fabsf(d - 1.0f)) * weight;
            const float *x = plane + (start + row) * next_row + (base + voxel) * next_voxel;
#pragma unroll
            for (int k = 0; k < SLICES; ++k) {
                if (slice + k * blockDim.x < slices) {
                    near_sum[k] = fmaf(near, x[k * blockDim.x], near_sum[k]);
                    far_sum[k] = fmaf(far, x[k * blockDim.x + next_voxel], far_sum[k]);
                }
            }
        }
    }
    if (!inside) return;
    float *target = rays + (((long long)blockIdx.z * nt + tilt) * nu + ray) * slices + slice;
#pragma unroll
    for (int k = 0; k < SLICES; ++k)
        if (slice + k * blockDim.x < slices) target[k * blockDim.x] = near_sum[k] + far_sum[k];
}

// The new value of a voxel from b = W^T y: b itself without a step C, else x + C (b + share extra),
// or x + x C b with `multiply`, then made non-negative if asked for, then multiplied by the mask.
// `shared` is its index in arrays without channels.
__device__ inline float updated(float b, float x, float step, bool multiply, const float *extra, float share, const float *mask,
                                long long shared, bool nonnegative) {
    if (extra) b = fmaf(share, extra[shared], b);
    float result = multiply ? fmaf(step * b, x, x) : fmaf(step, b, x);
    if (nonnegative) result = fmaxf(0.0f, result);
    return mask ? mask[shared] * result : result;
}

// Voxels (x, y) of one row z, one channel and blockDim.x * SLICES slices: W^T y, or the update of
// an iteration where `step` (channel, z, x) is given. `extra` and `mask` are (z, x, y), `shares`
// (channel,).
extern "C" __global__ void back_project(const float *__restrict__ rays, float *__restrict__ volume, const double *table,
                                        float length, int nz, int nx, int nt, int nu, int slices, const float *step, int multiply,
                                        const float *extra, const float *shares, const float *mask, int nonnegative) {
    __shared__ int whole[BLOCK];
    __shared__ float fraction[BLOCK], slope[BLOCK], inverse[BLOCK];
    const int voxel_blocks = (nx + blockDim.y - 1) / blockDim.y;
    const int z = blockIdx.x / voxel_blocks, first_x = blockIdx.x % voxel_blocks * blockDim.y;
    const int x = first_x + threadIdx.y, slice = blockIdx.y * blockDim.x * SLICES + threadIdx.x;
    const int runs = (blockDim.y + RUN - 1) / RUN, batch = BLOCK / runs;
    const float *plane = rays + (long long)blockIdx.z * nt * nu * slices + slice;
    const bool inside = x < nx && slice < slices;
    float near_sum[SLICES] = {}, far_sum[SLICES] = {};
    for (int start = 0; start < nt; start += batch) {
        const int count = min(batch, nt - start), entry = threadIdx.x + blockDim.x * threadIdx.y;
        __syncthreads();
        if (entry < count * runs) {
            const double *of_tilt = table + 3 * (start + entry / runs);
            const double c = of_tilt[0], s = of_tilt[1];
            const double position = of_tilt[2] + z * s + (first_x / RUN + entry % runs) * RUN * c, below = floor(position);
            whole[entry] = (int)below;
            fraction[entry] = (float)(position - below);
            slope[entry] = (float)c;
            inverse[entry] = 1.0f / fmaxf(fabsf((float)c), fabsf((float)s));
        }
        __syncthreads();
        if (!inside) continue;
        for (int tilt = 0; tilt < count; ++tilt) {
            const int of_run = tilt * runs + x / RUN - first_x / RUN, base = whole[of_run];
            const float p = fraction[of_run] + (float)(x % RUN) * slope[of_run], width = inverse[of_run];
            const int ray = min(max((int)floorf(p), -base), nu - 2 - base);
            const float d = (p - (float)ray) * width, weight = length * width;
            const float near = fmaxf(0.0f, 1.0f - fabsf(d)) * weight, far = fmaxf(0.0f, 1.0f - fabsf(d - width)) * weight;
            const float *y = plane + ((long long)(start + tilt) * nu + base + ray) * slices;
#pragma unroll
            for (int k = 0; k < SLICES; ++k) {
                if (slice + k * blockDim.x < slices) {
                    near_sum[k] = fmaf(near, y[k * blockDim.x], near_sum[k]);
                    far_sum[k] = fmaf(far, y[k * blockDim.x + slices], far_sum[k]);
                }
            }
        }
    }
    if (!inside) return;
    const long long voxel = (long long)z * nx + x, all = (long long)nz * nx, channel = blockIdx.z;
    float *target = volume + (channel * all + voxel) * slices + slice;
    const float share = shares ? shares[channel] : 0.0f, own_step = step ? step[channel * all + voxel] : 0.0f;
#pragma unroll
    for (int k = 0; k < SLICES; ++k) {
        if (slice + k * blockDim.x < slices) {
            const float b = near_sum[k] + far_sum[k];
            const long long shared = voxel * slices + slice + k * blockDim.x;
            target[k * blockDim.x] =
                step ? updated(b, target[k * blockDim.x], own_step, multiply, extra, share, mask, shared, nonnegative) : b;
        }
    }
}

// The same update of one channel (z x, y) from sums (z x, y) that another program has projected
// back; `scale` is a factor on them.
extern "C" __global__ void update_channel(const float *sums, float scale, float *volume, int channel, int voxels, int slices,
                                          const float *step, int multiply, const float *extra, const float *shares,
                                          const float *mask, int nonnegative) {
    const long long n = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (n >= (long long)voxels * slices) return;
    const long long row = (long long)channel * voxels;
    float *target = volume + row * slices + n;
    const float b = scale * sums[n], share = shares ? shares[channel] : 0.0f;
    *target = step ? updated(b, *target, step[row + n / slices], multiply, extra, share, mask, n, nonnegative) : b;
}

// The means over detector pixels of binning x binning voxels: rays (image, u, y) to pixels (image,
// u/binning, y/binning).
extern "C" __global__ void mean_pixels(const float *rays, float *pixels, int binning, long long count, int slices) {
    const long long n = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (n >= count) return;  // slices are those of the pixels
    const long long row = n / slices, y = n % slices * binning;
    const float *first = rays + row * binning * slices * binning + y;
    float sum = 0.0f;
    for (int u = 0; u < binning; ++u)
        for (int k = 0; k < binning; ++k) sum += first[(long long)u * slices * binning + k];
    pixels[n] = sum / (float)(binning * binning);
}
