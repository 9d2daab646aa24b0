# Shared by quickstart and test: packages, the CUDA toolkit, configure and build. Sourced, not run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

packages=(g++ cmake ninja-build ccache libcli11-dev libsqlitecpp-dev libsqlite3-dev nlohmann-json3-dev libtomlplusplus-dev libfmt-dev
  zlib1g-dev libboost-context-dev libgtest-dev libbenchmark-dev)

say() { printf '\n== %s\n' "$*"; }
fail() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Debian and Ubuntu packages that are not there yet; with sudo where we are not root, with a line to copy where we may not.
install_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian or Ubuntu machine: install the equivalents of ${packages[*]} yourself"; return; }
  local missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || fail "these packages are missing and there is no password-free sudo to install them. Run:
  sudo apt-get install ${missing[*]}"
    as_root=(sudo -n)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

find_cuda() {
  if ! command -v nvcc >/dev/null && [ -z "${CUDAToolkit_ROOT:-}" ]; then
    [ -x /usr/local/cuda/bin/nvcc ] || fail "no CUDA toolkit found: nvcc is not on PATH, CUDAToolkit_ROOT is not set and /usr/local/cuda is empty.
  Install CUDA 12.8 or newer (13.0 is what phitune is tested with) from NVIDIA's packages: cuda-nvcc, cuda-cudart-dev, cuda-nvrtc-dev, libcublas-dev.
  No GPU is needed to build, test or replay."
    export PATH="/usr/local/cuda/bin:$PATH"
  fi
}

# configure PRESET [cmake's options...]
configure() {
  local preset=$1; shift
  local launcher=(); command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  say "configuring (preset $preset, build/$preset)"
  cmake --preset "$preset" "${launcher[@]}" "$@" >"build-$preset.log" 2>&1 || { cat "build-$preset.log"; fail "configuring failed; the message above says what is missing"; }
  rm -f "build-$preset.log"
}

# build PRESET [targets...]
build() {
  local preset=$1; shift
  configure "$preset"
  say "building"
  cmake --build --preset "$preset" ${1:+--target "$@"}
}
