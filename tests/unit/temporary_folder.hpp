// A folder for one test: it is gone, with all that is in it, when the object is.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace anyhyve {

class TemporaryFolder {
public:
    explicit TemporaryFolder(std::filesystem::path const& parent = testing::TempDir()) : m_path((parent / "anyhyve-XXXXXX").string())
    {
        EXPECT_NE(mkdtemp(m_path.data()), nullptr) << m_path;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(m_path); }
    TemporaryFolder(TemporaryFolder const&) = delete;
    TemporaryFolder& operator=(TemporaryFolder const&) = delete;

    std::string const& path() const { return m_path; }

private:
    std::string m_path;
};

} // namespace anyhyve
