# The Debian 12 packages that this project needs, in one place; sourced by ./run and ./test.
# shellcheck shell=bash disable=SC2034

build_packages="g++ cmake ninja-build libfmt-dev nlohmann-json3-dev"
# What makes the guest of ./run: a kernel and busybox are fetched as packages and unpacked, not installed.
guest_packages="apt dpkg cpio gzip e2fsprogs python3-minimal"
test_packages="libgtest-dev libgmock-dev librapidcheck-dev libzydis-dev acpica-tools mandoc zstd xz-utils lz4 python3 binutils"

# Compilations are kept where ccache happens to be installed.
compiler_cache=$(command -v ccache >/dev/null && echo -DCMAKE_CXX_COMPILER_LAUNCHER=ccache || true)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "$0: '$*' must be run as root, and there is no sudo" >&2
        return 1
    fi
}

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# ensure_packages NAME...: installs those that are missing.
ensure_packages() {
    local missing
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    step "Updating package lists" as_root apt-get update -q
    # shellcheck disable=SC2086
    step "Installing ${missing% }" as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
}
