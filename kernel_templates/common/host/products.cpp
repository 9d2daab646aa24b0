// Asynchronous matrix products of a warpgroup (wgmma): descriptors, and effects as late as their waits allow. Each warp does its own 16
// rows at its own wait, from registers and shared memory as they are by then. PTX ISA, "Asynchronous warpgroup level matrix instructions".
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {
namespace {

constexpr int depth = 16;  // k of one product of 16-bit operands

/// An operand in shared memory: (row, k) where row is m for A and n for B.
class SharedOperand {
 public:
  SharedOperand(u64 descriptor, bool rows_contiguous)
      : start_(static_cast<unsigned>(descriptor & 0x3fff) << 4),
        leading_(static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4),
        stride_(static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4),
        base_offset_(static_cast<unsigned>(descriptor >> 49 & 7)),
        swizzle_(static_cast<unsigned>(descriptor >> 62)),
        rows_contiguous_(rows_contiguous) {}

  [[nodiscard]] unsigned base_offset() const { return base_offset_; }

  /// Byte offset of an element from the start of shared memory.
  [[nodiscard]] unsigned at(unsigned row, unsigned k) const {
    const unsigned width = swizzled_bytes();
    unsigned offset = 0;
    if (width == 0) {
      // Core matrices of 8 x 16 bytes, 128 bytes each.
      offset = rows_contiguous_ ? row / 8 * stride_ + k / 8 * leading_ + k % 8 * 16 + row % 8 * 2
                                : row / 8 * stride_ + k / 8 * leading_ + row % 8 * 16 + k % 8 * 2;
    } else if (rows_contiguous_) {
      const unsigned per_line = width / 2;
      offset = row / per_line * leading_ + k / 8 * stride_ + k % 8 * width + row % per_line * 2;
    } else {
      offset = row / 8 * stride_ + row % 8 * width + k * 2;
    }
    return permuted(start_ + offset, width);
  }

 private:
  [[nodiscard]] unsigned swizzled_bytes() const { return swizzle_ == 0 ? 0 : swizzle_ == 1 ? 128 : swizzle_ == 2 ? 64 : 32; }
  // The bits of the 16-byte chunk within a line are mixed with the line's number.
  static unsigned permuted(unsigned address, unsigned width) {
    return width == 0 ? address : address ^ ((address >> 7 & (width / 16 - 1)) << 4);
  }

  unsigned start_, leading_, stride_, base_offset_, swizzle_;
  bool rows_contiguous_;
};

// Every element an operand touches must lie in shared memory and be as the async proxy sees it.
void check_operand(const SharedOperand& operand, unsigned rows, const char* name, const Site& site) {
  Block& block = *current->block;
  if (operand.base_offset() != 0)
    fail(site,
         std::string(name) + " has a base offset: the emulator takes swizzled operands whose pattern starts at a multiple of its size");
  const char* const view = async_view(block);
  for (unsigned row = 0; row < rows; ++row) {
    for (unsigned k = 0; k < depth; ++k) {
      const unsigned at = operand.at(row, k);
      if (at + 2 > block.shared_bytes) {
        fail(site, std::string(name) + " reaches byte " + std::to_string(at) + " of the " + std::to_string(block.shared_bytes) +
                       " bytes of shared memory");
      }
      if (std::memcmp(view + at, block.shared + at, 2) != 0) {
        fail(site, std::string(name) + " at byte " + std::to_string(at) +
                       " of shared memory was written by ordinary stores that no fence_async_shared has made known to it");
      }
    }
  }
}

void check_product(const WarpgroupProduct& product, const Site& site) {
  if (product.n < 8 || product.n > 256 || product.n % 8 != 0) fail(site, "n = " + std::to_string(product.n) + ": 8 to 256 in steps of 8");
  check_operand(SharedOperand(product.b_descriptor, product.n_contiguous), static_cast<unsigned>(product.n), "B", site);
  if (product.a == nullptr) check_operand(SharedOperand(product.a_descriptor, product.m_contiguous), 64, "A", site);
}

float decode(u16 bits, bool half) { return half ? fp16_to_float(bits) : bf16_to_float(bits); }

float load(const SharedOperand& operand, unsigned row, unsigned k, bool half) {
  u16 bits;
  std::memcpy(&bits, current->block->shared + operand.at(row, k), sizeof bits);
  return decode(bits, half);
}

/// 16 rows of A of a warp.
struct Rows {
  float a[16][depth];
};

Rows read_rows(const std::array<WarpgroupProduct, warp_size>& lanes, unsigned first_row) {
  Rows rows;
  const WarpgroupProduct& first = lanes.front();
  if (first.a == nullptr) {
    const SharedOperand operand(first.a_descriptor, first.m_contiguous);
    for (unsigned m = 0; m < 16; ++m)
      for (unsigned k = 0; k < depth; ++k) rows.a[m][k] = load(operand, first_row + m, k, first.half);
    return rows;
  }
  for (unsigned i = 0; i < warp_size; ++i) {
    const unsigned g = i / 4, t = i % 4;
    for (unsigned j = 0; j < 4; ++j) {
      float* const to = &rows.a[g + 8 * (j & 1)][2 * t + 8 * (j >> 1)];
      to[0] = decode(static_cast<u16>(lanes[i].a[j]), first.half);
      to[1] = decode(static_cast<u16>(lanes[i].a[j] >> 16), first.half);
    }
  }
  return rows;
}

// Does the oldest product of a warp.
void perform(const Warp& warp, const std::array<WarpgroupProduct, warp_size>& lanes) {
  const WarpgroupProduct& first = lanes.front();
  const unsigned warp_in_group = warp.threads[0]->place.thread / warp_size % warpgroup_warps;
  const Rows rows = read_rows(lanes, 16 * warp_in_group);
  const SharedOperand b(first.b_descriptor, first.n_contiguous);
  for (unsigned column = 0; column < static_cast<unsigned>(first.n); column += 8) {
    float values[depth][8];
    for (unsigned k = 0; k < depth; ++k)
      for (unsigned n = 0; n < 8; ++n) values[k][n] = load(b, column + n, k, first.half);
    for (unsigned i = 0; i < warp_size; ++i) {
      float* const c = warp.threads[i]->accumulators.at(lanes[i].c).values.data() + column / 2;
      for (unsigned j = 0; j < 4; ++j) {
        const unsigned m = i / 4 + j / 2 * 8, n = 2 * (i % 4) + j % 2;
        float sum = lanes[i].accumulate ? c[j] : 0.0f;
        for (unsigned k = 0; k < depth; ++k) sum += rows.a[m][k] * values[k][n];
        c[j] = first.packed ? fp16_to_float(float_to_fp16(sum)) : sum;
      }
    }
  }
}

// Gives accumulators back that no product in flight needs any more.
void release(Warp& warp, const Site& site) {
  for (unsigned i = 0; i < warp_size; ++i) {
    Thread& thread = *warp.threads[i];
    std::erase_if(thread.accumulators, [&](auto& held) {
      const bool in_flight = std::ranges::any_of(warp.products, [&](const auto& product) { return product[i].c == held.first; });
      if (in_flight) return false;
      if (!held.second.are_nan(held.first)) fail(site, "accumulators were written while a product into them was in flight, by " + name_of(thread));
      held.second.store(held.first);
      return true;
    });
  }
}

}  // namespace

Accumulators::Accumulators(const void* registers, std::size_t count, bool fp16) : values(count), packed(fp16) {
  for (std::size_t i = 0; i < count; ++i)
    values[i] = packed ? fp16_to_float(static_cast<const u16*>(registers)[i]) : static_cast<const float*>(registers)[i];
}
void Accumulators::fill_nan(void* registers) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (packed)
      static_cast<u16*>(registers)[i] = 0x7fff;
    else
      static_cast<float*>(registers)[i] = std::numeric_limits<float>::quiet_NaN();
  }
}
bool Accumulators::are_nan(const void* registers) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(packed ? fp16_to_float(static_cast<const u16*>(registers)[i]) : static_cast<const float*>(registers)[i])) return false;
  }
  return true;
}
void Accumulators::store(void* registers) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (packed)
      static_cast<u16*>(registers)[i] = float_to_fp16(values[i]);
    else
      static_cast<float*>(registers)[i] = values[i];
  }
}

void issue_product(const WarpgroupProduct& product, const Site& site) {
  Warp& warp = *current->warp;
  if (!warp.fenced) fail(site, "a product without a wgmma_fence since its registers could last be written");
  WarpgroupProduct mine = product;
  meet(Group::warpgroup, site, &mine, [](void* const* operands) {
    const auto& first = *static_cast<const WarpgroupProduct*>(operands[0]);
    check_product(first, current->site);
    for (unsigned w = 0; w < warpgroup_warps; ++w) {
      Warp& each = *current->warp->group->warps[w];
      auto& lanes = each.products.emplace_back();
      for (unsigned i = 0; i < warp_size; ++i) {
        const auto& asked = *static_cast<const WarpgroupProduct*>(operands[w * warp_size + i]);
        if (asked.b_descriptor != first.b_descriptor || asked.a_descriptor != first.a_descriptor || asked.accumulate != first.accumulate)
          fail(current->site, "the threads of a warpgroup ask for different products: first of all " + name_of(*each.threads[i]));
        lanes[i] = asked;
        auto [held, is_new] = each.threads[i]->accumulators.try_emplace(asked.c, asked.c, static_cast<std::size_t>(asked.n) / 2, asked.packed);
        if (is_new) held->second.fill_nan(asked.c);
      }
    }
  });
}

void fence_products(const Site& site) {
  meet(Group::warp, site, nullptr, [](void* const*) { current->warp->fenced = true; });
}

void commit_products(const Site& site) {
  meet(Group::warp, site, nullptr, [](void* const*) { current->warp->product_commits.push_back(current->warp->products.size()); });
}

void await_products(unsigned pending, const Site& site) {
  unsigned wanted = pending;
  meet(Group::warp, site, &wanted, [](void* const* operands) {
    Warp& warp = *current->warp;
    const std::size_t open = warp.product_commits.size(), keep = *static_cast<const unsigned*>(operands[0]);
    warp.fenced = false;
    if (open <= keep) return;
    const std::size_t done = warp.product_commits[open - keep - 1];
    for (std::size_t i = 0; i < done; ++i) perform(warp, warp.products[i]);
    warp.products.erase(warp.products.begin(), warp.products.begin() + static_cast<std::ptrdiff_t>(done));
    warp.product_commits.erase(warp.product_commits.begin(), warp.product_commits.begin() + static_cast<std::ptrdiff_t>(open - keep));
    for (std::size_t& commit : warp.product_commits) commit -= done;
    release(warp, current->site);
  });
}

}  // namespace phitune::host
