#!/bin/sh
# What a fresh Debian or Ubuntu needs, beside Rust, to build and test Shearwater. Run it once, as root.
#
#   gcc, libc6-dev   compile and link: the crypto library (aws-lc) is C and assembly, built from source by `cc`
#   make             the memory allocator (jemalloc) is C, built by its own makefile
#   ca-certificates  root certificates: Cargo needs them to download, the relay to talk to other servers
#
# Neither CMake nor Clang nor pkg-config nor OpenSSL is needed on x86-64 and ARM64. On other processors the crypto
# library makes its bindings while it is built: install cmake and clang there as well.
set -eu

if ! command -v apt-get >/dev/null; then
    echo "This script knows Debian and Ubuntu. Elsewhere install a C compiler, the C library's headers and root certificates." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Run it as root: sudo sh deploy/install-build-deps.sh" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends gcc libc6-dev make ca-certificates
