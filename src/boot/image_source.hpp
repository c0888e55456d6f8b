// Bytes that a loader reads: a file of the host, or memory. Everything in them is hostile: reads are bounded and nothing is mapped.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.hpp"
#include "vmm/guest_memory.hpp"

namespace anyhyve::boot {

class ImageSource {
public:
    virtual ~ImageSource() = default;

    // How messages call it: a path.
    std::string const& name() const { return m_name; }
    u64 size() const { return m_size; }

    // Fills `to` from `offset` on; an error when a byte of that is beyond the end.
    Result<void> read(u64 offset, std::span<u8> to) const;
    // Copies [offset, offset+length) into RAM.
    Result<void> read_into(GuestMemory&, u64 offset, u64 length, Gpa to) const;

    template<typename T>
    Result<T> read_value(u64 offset) const
    {
        static_assert(std::is_trivially_copyable_v<T>);
        std::array<u8, sizeof(T)> bytes;
        TRY(read(offset, bytes));
        T value;
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }

protected:
    ImageSource(std::string name, u64 size) : m_name(std::move(name)), m_size(size) {}
    // [offset, offset+to.size()) is within size().
    virtual Result<void> read_checked(u64 offset, std::span<u8> to) const = 0;
    // As much of it as can be had faster than by read_checked().
    virtual u64 fill(GuestMemory&, u64, u64, Gpa) const { return 0; }

private:
    std::string m_name;
    u64 m_size;
};

// A regular file or a block device.
class FileSource final : public ImageSource {
public:
    static Result<std::unique_ptr<FileSource>> open(std::string const& path);
    ~FileSource() override;
    FileSource(FileSource const&) = delete;
    FileSource& operator=(FileSource const&) = delete;

private:
    FileSource(int file, std::string path, u64 size) : ImageSource(std::move(path), size), m_file(file) {}
    Result<void> read_checked(u64 offset, std::span<u8> to) const override;
    u64 fill(GuestMemory& memory, u64 offset, u64 length, Gpa to) const override { return memory.fill(to, m_file, offset, length); }

    int m_file;
};

// Bytes already in memory, owned.
class MemorySource final : public ImageSource {
public:
    MemorySource(std::string name, std::vector<u8> bytes) : ImageSource(std::move(name), bytes.size()), m_bytes(std::move(bytes)) {}

private:
    Result<void> read_checked(u64 offset, std::span<u8> to) const override;

    std::vector<u8> m_bytes;
};

} // namespace anyhyve::boot
