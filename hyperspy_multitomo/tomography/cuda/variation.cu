// SPDX-License-Identifier: GPL-3.0-or-later
// The primal-dual iteration of TV and TGV: one pass over the volume, one over the duals, the
// regulariser's value.
//
// A thread does one voxel with all its channels, and a pass touches every number once, because
// memory bandwidth limits it: all numbers of one norm stay in registers, which is why CHANNELS,
// DIMENSIONS and COUPLING are constants. Volumes are (channel, z, x, y), fields (channel,
// component, z, x, y) with the components of `differences`. Neighbours are read from the cache: of
// one difference over the border both ends are the same voxel. Blocks along x of the grid do the
// voxels (x, y) of one z.

#ifndef CHANNELS  // else put before this text
#define CHANNELS 4
#define DIMENSIONS 3
#define COUPLING NUCLEAR
#endif

#define PER_CHANNEL 0
#define TOGETHER 1
#define NUCLEAR 2
#define ELEMENTS (DIMENSIONS * (DIMENSIONS + 1) / 2)
#define SWEEPS (DIMENSIONS == 2 ? 1 : 3)
#define HALF 0.70710678f  // of an off-diagonal element, stored times sqrt(2)

// A voxel, and the steps to its neighbours along z, x and y: 0 where there is none, as `inner` is
// where none follows.
struct Place {
    bool inside;
    long long voxel, voxels;
    int next[3], before[3];
    float inner[3];
};

__device__ inline void neighbours(Place &place, int axis, int here, int count, int step) {
    place.next[axis] = here + 1 < count ? step : 0;
    place.before[axis] = here > 0 ? step : 0;
    place.inner[axis] = here + 1 < count ? 1.0f : 0.0f;
}

__device__ inline Place place_of_thread(int nz, int nx, int ny) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, z = blockIdx.y, plane = nx * ny;
    Place place;
    place.inside = k < plane;
    place.voxel = (long long)z * plane + k;
    place.voxels = (long long)nz * plane;
    const int x = k / ny;
    neighbours(place, 0, z, nz, plane);
    neighbours(place, 1, x, nx, ny);
    neighbours(place, 2, k - x * ny, ny, 1);
    return place;
}

// Component k of a field of `components` of channel c.
__device__ inline const float *part(const float *field, const Place &place, int c, int components, int k) {
    return field + (c * components + k) * place.voxels + place.voxel;
}
__device__ inline float *part(float *field, const Place &place, int c, int components, int k) {
    return field + (c * components + k) * place.voxels + place.voxel;
}

__device__ inline float ahead_of(const float *a, const Place &place, int axis) { return a[place.next[axis]] - a[0]; }

// The backward difference d- = -(d+)^T.
__device__ inline float behind(const float *a, const Place &place, int axis) {
    const float before = place.before[axis] ? a[-place.before[axis]] : 0.0f;
    return place.inner[axis] * a[0] - before;
}

// Which of the stored elements of a symmetric matrix is (i, j).
__device__ inline int element(int i, int j) { return i == j ? i : DIMENSIONS + i + j - 1; }

// Frobenius norms

template <int N>
__device__ inline float length_of(const float (&a)[N]) {
    float square = 0.0f;
#pragma unroll
    for (int k = 0; k < N; ++k) square += a[k] * a[k];
    return sqrtf(square);
}

template <int N>
__device__ inline void shrink(float (&a)[N], float radius) {
    const float length = length_of(a);
    if (length > radius) {
        const float factor = radius / length;
#pragma unroll
        for (int k = 0; k < N; ++k) a[k] *= factor;
    }
}

// Singular values of the matrix (channel, component), as `spectral_kernels` finds them: Jacobi's
// rotations of the Gram matrix give the right singular vectors V, and the singular values are the
// norms of the columns of J V.

__device__ inline void gram(const float *a, float unit, float (&g)[DIMENSIONS][DIMENSIONS]) {
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i)
#pragma unroll
        for (int j = 0; j < DIMENSIONS; ++j) {
            g[i][j] = 0.0f;
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) g[i][j] += (unit * a[c * DIMENSIONS + i]) * (unit * a[c * DIMENSIONS + j]);
        }
}

// Turn the rows and columns a and b of g so that g[a][b] vanishes, and the columns of v with them.
__device__ inline void rotate(float (&g)[DIMENSIONS][DIMENSIONS], float (&v)[DIMENSIONS][DIMENSIONS], int a, int b) {
    const float difference = g[b][b] - g[a][a], twice = 2.0f * g[a][b];
    const float length = sqrtf(difference * difference + twice * twice) + 1e-30f;
    const float tangent = twice / (difference + copysignf(length, difference));
    const float cosine = 1.0f / sqrtf(tangent * tangent + 1.0f), sine = cosine * tangent;
    g[a][a] -= tangent * g[a][b];
    g[b][b] += tangent * g[a][b];
    g[a][b] = g[b][a] = 0.0f;
#pragma unroll
    for (int k = 0; k < DIMENSIONS; ++k) {
        if (k != a && k != b) {
            const float first = g[a][k], second = g[b][k];
            g[a][k] = g[k][a] = cosine * first - sine * second;
            g[b][k] = g[k][b] = sine * first + cosine * second;
        }
        const float first = v[k][a], second = v[k][b];
        v[k][a] = cosine * first - sine * second;
        v[k][b] = sine * first + cosine * second;
    }
}

__device__ inline void eigenvectors(float (&g)[DIMENSIONS][DIMENSIONS], float (&v)[DIMENSIONS][DIMENSIONS]) {
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i)
#pragma unroll
        for (int j = 0; j < DIMENSIONS; ++j) v[i][j] = i == j ? 1.0f : 0.0f;
#pragma unroll
    for (int sweep = 0; sweep < SWEEPS; ++sweep)
#pragma unroll
        for (int a = 0; a < DIMENSIONS; ++a)
#pragma unroll
            for (int b = a + 1; b < DIMENSIONS; ++b) rotate(g, v, a, b);
}

__device__ inline float singular_value(const float *a, const float (&v)[DIMENSIONS][DIMENSIONS], int column, float unit) {
    float square = 0.0f;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        float value = 0.0f;
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) value += v[i][column] * a[c * DIMENSIONS + i];
        square += (unit * value) * (unit * value);
    }
    return sqrtf(square);
}

__device__ inline void clip_singular_values(float (&a)[CHANNELS * DIMENSIONS], float radius) {
    const float unit = 1.0f / radius;
    float g[DIMENSIONS][DIMENSIONS], v[DIMENSIONS][DIMENSIONS], factors[DIMENSIONS], trace = 0.0f;
    gram(a, unit, g);
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i) trace += g[i][i];
    if (trace <= 1.0f) return;  // the sum of all squared singular values
    eigenvectors(g, v);
#pragma unroll
    for (int k = 0; k < DIMENSIONS; ++k) factors[k] = 1.0f / fmaxf(singular_value(a, v, k, unit), 1.0f);
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i)
#pragma unroll
        for (int j = 0; j < DIMENSIONS; ++j) {
            g[i][j] = 0.0f;
#pragma unroll
            for (int k = 0; k < DIMENSIONS; ++k) g[i][j] += factors[k] * v[i][k] * v[j][k];
        }
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        float old[DIMENSIONS];
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) old[i] = a[c * DIMENSIONS + i];
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) {
            float value = 0.0f;
#pragma unroll
            for (int j = 0; j < DIMENSIONS; ++j) value += g[i][j] * old[j];
            a[c * DIMENSIONS + i] = value;
        }
    }
}

__device__ inline float nuclear_norm(const float (&a)[CHANNELS * DIMENSIONS]) {
    float g[DIMENSIONS][DIMENSIONS], v[DIMENSIONS][DIMENSIONS], sum = 0.0f;
    gram(a, 1.0f, g);
    eigenvectors(g, v);
#pragma unroll
    for (int k = 0; k < DIMENSIONS; ++k) sum += singular_value(a, v, k, 1.0f);
    return sum;
}

// Fields of one voxel

// Write grad u - w of channel c to a; w may be null.
__device__ inline void slopes(const float *volume, const float *field, const Place &place, int c, float *a) {
    const float *u = part(volume, place, c, 1, 0);
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i) {
        a[i] = ahead_of(u, place, i);
        if (field) a[i] -= *part(field, place, c, DIMENSIONS, i);
    }
}

// Write E w of channel c to a.
__device__ inline void strains(const float *field, const Place &place, int c, float *a) {
#pragma unroll
    for (int i = 0; i < DIMENSIONS; ++i) {
        a[i] = behind(part(field, place, c, DIMENSIONS, i), place, i);
#pragma unroll
        for (int j = i + 1; j < DIMENSIONS; ++j)
            a[element(i, j)] = HALF * (behind(part(field, place, c, DIMENSIONS, j), place, i) +
                                       behind(part(field, place, c, DIMENSIONS, i), place, j));
    }
}

// a <- dual + step a, and back: dual <- dual + rho (a - dual), for N components of channel c.
template <int N>
__device__ inline void add_dual(float *a, const float *dual, const Place &place, int c, float step) {
#pragma unroll
    for (int k = 0; k < N; ++k) a[k] = step * a[k] + *part(dual, place, c, N, k);
}
template <int N>
__device__ inline void over_relax(float *dual, const float *a, const Place &place, int c, float rho) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
        float *old = part(dual, place, c, N, k);
        *old = rho * (a[k] - *old) + *old;
    }
}

// Kernels

// p <- p + rho (P(p + sigma (grad u - w)) - p) and, of TGV, q <- q + rho (P(q + sigma_q E w) - q),
// with the extrapolated u and w; w and q are null for TV. q is projected per channel where p is,
// else by the norm over all.
extern "C" __global__ void step_duals(const float *volume, const float *field, float *p, float *q, float gradient_step,
                                      float matrix_step, float radius, float matrix_radius, float rho, int nz, int nx, int ny) {
    const Place place = place_of_thread(nz, nx, ny);
    if (!place.inside) return;
#if COUPLING == PER_CHANNEL
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        float a[DIMENSIONS];
        slopes(volume, field, place, c, a);
        add_dual<DIMENSIONS>(a, p, place, c, gradient_step);
        shrink(a, radius);
        over_relax<DIMENSIONS>(p, a, place, c, rho);
        if (field) {
            float b[ELEMENTS];
            strains(field, place, c, b);
            add_dual<ELEMENTS>(b, q, place, c, matrix_step);
            shrink(b, matrix_radius);
            over_relax<ELEMENTS>(q, b, place, c, rho);
        }
    }
#else
    float a[CHANNELS * DIMENSIONS];
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        slopes(volume, field, place, c, a + c * DIMENSIONS);
        add_dual<DIMENSIONS>(a + c * DIMENSIONS, p, place, c, gradient_step);
    }
#if COUPLING == NUCLEAR
    clip_singular_values(a, radius);
#else
    shrink(a, radius);
#endif
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) over_relax<DIMENSIONS>(p, a + c * DIMENSIONS, place, c, rho);
    if (field) {
        float b[CHANNELS * ELEMENTS];
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) {
            strains(field, place, c, b + c * ELEMENTS);
            add_dual<ELEMENTS>(b + c * ELEMENTS, q, place, c, matrix_step);
        }
        shrink(b, matrix_radius);
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) over_relax<ELEMENTS>(q, b + c * ELEMENTS, place, c, rho);
    }
#endif
}

// u~ = Pi(u - tau (grad^T p - linear + back + shares mix extra)) and, of TGV, w~ = w - tau_w (E^T q - p).
//
// Before and after, `volume` and `field` hold u~ and w~, `ahead` and `field_ahead` the extrapolated
// 2 u~ - u and 2 w~ - w: the over-relaxed u that a step starts from, u + rho (u~ - u), follows from
// the two. Null are the fields and q for TV, `linear` but in a refit, `extra` (z, x, y) where no data see a sum of channels,
// `mix` (channel, z, x, y) where their factors `shares` (channel,) are the same in every voxel,
// `mask` (z, x, y) where there is none. `volume_steps` tau is (channel, z, x).
extern "C" __global__ void step_primal(float *volume, float *ahead, float *field, float *field_ahead, const float *p,
                                       const float *q, const float *back, const float *linear, const float *extra,
                                       const float *shares, const float *mix, const float *volume_steps, float field_step, float rho,
                                       int nonnegative, const float *mask, int nz, int nx, int ny) {
    const Place place = place_of_thread(nz, nx, ny);
    if (!place.inside) return;
    const float more = extra ? extra[place.voxel] : 0.0f, kept = mask ? mask[place.voxel] : 1.0f;
    const long long column = place.voxel / ny;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        const long long v = c * place.voxels + place.voxel;
        float pull = linear ? back[v] - linear[v] : back[v];
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) pull -= behind(part(p, place, c, DIMENSIONS, i), place, i);
        if (extra) pull += (mix ? mix[v] * shares[c] : shares[c]) * more;
        const float old = (2.0f - rho) * volume[v] + (rho - 1.0f) * ahead[v];
        float best = old - volume_steps[(long long)c * nz * nx + column] * pull;
        if (nonnegative) best = fmaxf(best, 0.0f);
        best *= kept;
        volume[v] = best;
        ahead[v] = 2.0f * best - old;
        if (!field) continue;
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) {
            float mixed = 0.0f;
#pragma unroll
            for (int j = 0; j < DIMENSIONS; ++j)
                if (j != i) mixed += ahead_of(part(q, place, c, ELEMENTS, element(i, j)), place, j);
            const float push = *part(p, place, c, DIMENSIONS, i) + ahead_of(part(q, place, c, ELEMENTS, i), place, i);
            float *w = part(field, place, c, DIMENSIONS, i), *far = part(field_ahead, place, c, DIMENSIONS, i);
            const float start = (2.0f - rho) * *w + (rho - 1.0f) * *far;
            const float found = field_step * (push + HALF * mixed) + start;
            *w = found;
            *far = 2.0f * found - start;
        }
    }
}

// The norm of one voxel's field (channel, component).
__device__ inline double norm_of(const float (&a)[CHANNELS * DIMENSIONS]) {
#if COUPLING == PER_CHANNEL
    double total = 0.0;
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c) {
        float one[DIMENSIONS];
#pragma unroll
        for (int i = 0; i < DIMENSIONS; ++i) one[i] = a[c * DIMENSIONS + i];
        total += length_of(one);
    }
    return total;
#elif COUPLING == NUCLEAR
    return nuclear_norm(a);
#else
    return length_of(a);
#endif
}

// Sums over the voxels of |grad u - w|, |E w|, |w| and linear u, one of each for every block, to
// values (4, block); w and `linear` may be null.
extern "C" __global__ void variation(const float *volume, const float *field, const float *linear, double *values,
                                     int nz, int nx, int ny) {
    const Place place = place_of_thread(nz, nx, ny);
    double gradients = 0.0, matrices = 0.0, fields = 0.0, products = 0.0;
    if (place.inside) {
        float a[CHANNELS * DIMENSIONS];
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) slopes(volume, field, place, c, a + c * DIMENSIONS);
        gradients = norm_of(a);
        if (field) {
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c)
#pragma unroll
                for (int i = 0; i < DIMENSIONS; ++i) a[c * DIMENSIONS + i] = *part(field, place, c, DIMENSIONS, i);
            fields = norm_of(a);
#if COUPLING == PER_CHANNEL
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) {
                float b[ELEMENTS];
                strains(field, place, c, b);
                matrices += length_of(b);
            }
#else
            float b[CHANNELS * ELEMENTS];
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) strains(field, place, c, b + c * ELEMENTS);
            matrices = length_of(b);
#endif
        }
        if (linear)
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c) {
                const long long v = c * place.voxels + place.voxel;
                products += (double)linear[v] * volume[v];
            }
    }
    const long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x, blocks = (long long)gridDim.x * gridDim.y;
    block_sum(gradients, values + block);
    block_sum(matrices, values + blocks + block);
    block_sum(fields, values + 2 * blocks + block);
    block_sum(products, values + 3 * blocks + block);
}
