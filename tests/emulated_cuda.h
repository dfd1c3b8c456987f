// SPDX-License-Identifier: GPL-3.0-or-later
// CUDA C on the CPU: every thread of a block is a fiber, blocks follow each other, a barrier switches fibers.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

struct dim3 {
    unsigned x, y, z;
};
typedef dim3 uint3;

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __constant__ static

using std::max;
using std::min;
template <class T>
inline T __ldg(const T *p) {
    return *p;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class T>
inline T atomicAdd(T *target, T value) {
    T old = *target;
    *target += value;
    return old;
}

namespace emulated {

const std::size_t STACK = 64 * 1024;

// Fibers live from one block to the next; after they have been entered once, jumps change between them, without the system.
struct Fiber {
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    dim3 thread;
    bool entered = false, done = false;
};

struct Machine {
    dim3 grid_size, block_size, block;
    std::vector<std::unique_ptr<Fiber>> fibers;
    Fiber *current = nullptr;
    jmp_buf scheduler;
    const std::function<void()> *body = nullptr;
};

inline Machine &machine() {
    static Machine one;
    return one;
}

// Leave the current fiber until it is resumed.
__attribute__((noinline)) inline void barrier() {
    Machine &m = machine();
    if (!_setjmp(m.current->place)) _longjmp(m.scheduler, 1);
}

inline void fiber_main() {
    for (;;) {
        (*machine().body)();
        machine().current->done = true;
        barrier();
    }
}

__attribute__((noinline)) inline void resume(Fiber &f) {
    Machine &m = machine();
    m.current = &f;
    if (_setjmp(m.scheduler)) return;
    if (f.entered) _longjmp(f.place, 1);
    f.entered = true;
    f.stack.reset(new char[STACK]);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = f.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
}

// Run all threads of one block, between barriers forwards or backwards; false where some ended before a barrier that others
// waited at: these fibers are then given up.
inline bool run_block(unsigned threads, int order) {
    Machine &m = machine();
    while (m.fibers.size() < threads) m.fibers.emplace_back(new Fiber);
    for (unsigned t = 0; t < threads; ++t) {
        Fiber &f = *m.fibers[t];
        f.done = false;
        f.thread = {t % m.block_size.x, t / m.block_size.x % m.block_size.y, t / m.block_size.x / m.block_size.y};
    }
    for (unsigned phase = 0;; ++phase) {
        bool backwards = order == 1 || (order == 2 && phase % 2);
        unsigned ended = 0;
        for (unsigned k = 0; k < threads; ++k) {
            Fiber &f = *m.fibers[backwards ? threads - 1 - k : k];
            resume(f);
            ended += f.done;
        }
        if (ended == threads) return true;
        if (ended) {
            m.fibers.clear();
            return false;
        }
    }
}

template <class... A, std::size_t... I>
int launch(void (*kernel)(A...), std::index_sequence<I...>, const unsigned *grid, const unsigned *block, void **arguments,
           int order) {
    Machine &m = machine();
    const std::function<void()> body = [&] { kernel(*static_cast<std::remove_const_t<A> *>(arguments[I])...); };
    m.body = &body;
    m.grid_size = {grid[0], grid[1], grid[2]};
    m.block_size = {block[0], block[1], block[2]};
    const unsigned threads = block[0] * block[1] * block[2];
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                m.block = {x, y, z};
                if (!run_block(threads, order)) return 1;
            }
    return 0;
}

template <class... A>
int launch(void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **arguments, int order) {
    return launch(kernel, std::index_sequence_for<A...>(), grid, block, arguments, order);
}

// The type of an argument as NumPy writes it, a pointer with a star before it.
template <class T>
std::string letters() {
    if (std::is_pointer<T>::value) return "*" + letters<std::remove_cv_t<std::remove_pointer_t<T>>>();
    const char *kind = std::is_floating_point<T>::value ? "f" : std::is_same<T, bool>::value ? "b"
                       : std::is_signed<T>::value       ? "i"
                                                        : "u";
    return kind + std::to_string(sizeof(std::conditional_t<std::is_void<T>::value, char, T>));
}
template <>
inline std::string letters<void>() {
    return "void";
}

template <class... A>
const char *signature(void (*)(A...)) {
    static const std::string all = [] {
        std::string found;
        for (const std::string &one : {std::string(), letters<A>()...})
            if (!one.empty()) found += one + " ";
        return found;
    }();
    return all.c_str();
}

}  // namespace emulated

#define threadIdx (emulated::machine().current->thread)
#define blockIdx (emulated::machine().block)
#define blockDim (emulated::machine().block_size)
#define gridDim (emulated::machine().grid_size)
#define __syncthreads() emulated::barrier()
