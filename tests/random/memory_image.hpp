// The bytes of the pages that a case may reach: made from a seed, hashed where they have changed, and put back.
#pragma once

#include <vector>

#include "test_case.hpp"

namespace anyhyve::random_test {

class MemoryImage {
public:
    MemoryImage() : m_bytes(layout::page_count * layout::page) {}

    // What memory holds when `c` begins, its code included.
    void prepare(Case const& c);
    u8 const* page(unsigned index) const { return m_bytes.data() + index * layout::page; }
    // `size` bytes at a linear address, as far as they are mapped; unmapped ones are 0.
    u64 value_at(u64 linear, unsigned size) const;

    // The pages of one side. Which lines of them may differ from the image is known, so that a case costs no more than it touches.
    class Copy {
    public:
        // All pages; each of 4096 writable bytes.
        explicit Copy(std::array<u8*, layout::page_count> const& pages) : m_pages(pages) {}
        virtual ~Copy() = default;
        // Makes the pages what `image` says.
        void load(MemoryImage const& image);
        // Of all lines that differ from the image, with their places.
        u64 hash(MemoryImage const& image) const;
        u8* page(unsigned index) const { return m_pages[index]; }

    protected:
        // A 64-byte line is about to be put back.
        virtual void line_changes(unsigned, unsigned) { }
        virtual bool is_writable(unsigned) { return true; }

    private:
        std::array<u8*, layout::page_count> m_pages;
    };

private:
    void fill_data(u64 seed);

    std::vector<u8> m_bytes;
    u64 m_seed = ~u64 { 0 };
    unsigned m_code_offset = 0, m_code_length = layout::code_size; // where the last case's code is
};

} // namespace anyhyve::random_test
