// SPDX-License-Identifier: GPL-3.0-or-later
// The rays of the primal-dual method: the step of the data's dual variables, what they project
// back, and their values.
//
// Arrays are those of one data term: `rays` (row, tilt, fine u, fine y), with detector pixels of
// one voxel, all others (row, tilt, u, y) with pixels of `binning` x `binning` of them, steps (row,
// tilt, u), gains (row, tilt), weights and scales (row,). A row expects a = g scale W v + b of the
// volume v that it sees, and `seen` is W v in the detector's pixels. Tilts of gain 0 have no
// effect. A thread does one pixel, blocks along x of the grid those of one tilt and row.

#define LEAST 1e-20f  // no expected counts are taken to be below it

struct Pixel {
    bool inside;
    int row, tilt, u, y;
    long long spot, column;  // in (row, tilt, u, y) and in (row, tilt, u)
};

__device__ inline Pixel pixel_of_thread(int nt, int nu, int ny) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    Pixel pixel;
    pixel.row = blockIdx.z;
    pixel.tilt = blockIdx.y;
    pixel.u = k / ny;
    pixel.y = k - pixel.u * ny;
    pixel.inside = k < nu * ny;
    const long long first = (long long)pixel.row * nt + pixel.tilt;
    pixel.spot = first * nu * ny + k;
    pixel.column = first * nu + pixel.u;
    return pixel;
}

// Write a value to all rays of a pixel.
__device__ inline void spread(float *rays, const Pixel &pixel, int nt, int nu, int ny, int binning, float value) {
    const int width = nu * binning, slices = ny * binning;
    const long long first = ((long long)pixel.row * nt + pixel.tilt) * width;
    for (int du = 0; du < binning; ++du) {
        float *line = rays + (first + pixel.u * binning + du) * slices + pixel.y * binning;
        for (int dy = 0; dy < binning; ++dy) line[dy] = value;
    }
}

// s <- s + rho (prox(s + sigma a) - s), and g scale s/binning^2, which is projected back next, to
// the rays. The proximal map is that of the conjugate of the discrepancy: Kullback-Leibler where
// `poisson`, else least squares, times the weights. `rays` and `seen` may be the same.
extern "C" __global__ void step_rays(float *rays, const float *seen, float *duals, const float *data, const float *background,
                                     const float *steps, const float *gains, const float *weights, const float *scales,
                                     int poisson, float rho, int nt, int nu, int ny, int binning) {
    const Pixel pixel = pixel_of_thread(nt, nu, ny);
    if (!pixel.inside) return;
    const float gain = gains[pixel.row * nt + pixel.tilt], factor = gain * scales[pixel.row];
    float s = 0.0f;
    if (gain > 0.0f) {
        const float d = weights[pixel.row], sigma = steps[pixel.column], f = data[pixel.spot];
        const float a = factor * seen[pixel.spot] + (background ? background[pixel.spot] : 0.0f);
        s = duals[pixel.spot];
        const float v = sigma * a + s;
        float nearest;
        if (poisson) {
            const float far = v - d;
            nearest = 0.5f * (v + d - sqrtf(far * far + 4.0f * sigma * d * f));
        } else {
            nearest = (v - sigma * f) / (1.0f + sigma / d);
        }
        s = rho * (nearest - s) + s;
        duals[pixel.spot] = s;
    }
    spread(rays, pixel, nt, nu, ny, binning, factor / (binning * binning) * s);
}

// Write g scale s/binning^2 to the rays.
extern "C" __global__ void weigh_duals(float *rays, const float *duals, const float *gains, const float *scales, int nt, int nu,
                                       int ny, int binning) {
    const Pixel pixel = pixel_of_thread(nt, nu, ny);
    if (!pixel.inside) return;
    const float factor = gains[pixel.row * nt + pixel.tilt] * scales[pixel.row];
    spread(rays, pixel, nt, nu, ny, binning, factor / (binning * binning) * duals[pixel.spot]);
}

// Sums of (f - a)^2, and of the discrepancy, one of each for every block, to sums (2 row, tilt and
// block): rows of squares first.
extern "C" __global__ void measure_rays(const float *seen, const float *data, const float *background, const float *gains,
                                        const float *weights, const float *scales, int poisson, double *sums, int nt, int nu,
                                        int ny) {
    const Pixel pixel = pixel_of_thread(nt, nu, ny);
    const float gain = gains[pixel.row * nt + pixel.tilt];
    double square = 0.0, value = 0.0;
    if (pixel.inside && gain > 0.0f) {
        const float a = gain * scales[pixel.row] * seen[pixel.spot] + (background ? background[pixel.spot] : 0.0f);
        const float f = data[pixel.spot], e = f - a;
        square = (double)e * e;
        value = poisson ? (f > 0.0f ? f * logf(f / fmaxf(a, LEAST)) : 0.0f) - e : 0.5f * e * e;
        value *= weights[pixel.row];
    }
    const long long blocks = (long long)gridDim.x * gridDim.y, block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
    block_sum(square, sums + pixel.row * blocks + block);
    block_sum(value, sums + ((long long)gridDim.z + pixel.row) * blocks + block);
}

// total = sum_c shares_c mix_c v_c, (z, x, y) of `voxels`; `mix` is like the volume, or null for 1.
extern "C" __global__ void sum_mixed(const float *volume, float *total, const float *shares, const float *mix, int channels,
                                     long long voxels) {
    const long long v = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (v >= voxels) return;
    float sum = 0.0f;
    for (int c = 0; c < channels; ++c) {
        const float factor = mix ? mix[c * voxels + v] * shares[c] : shares[c];
        sum += factor * volume[c * voxels + v];
    }
    total[v] = sum;
}
