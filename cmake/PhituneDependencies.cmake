# Every dependency, found by name with the version we rely on, and the mend when it is missing.
function(phitune_require package debian)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "phitune needs ${package}. Install it with: apt-get install ${debian}   (scripts/quickstart does it for you)")
  endif()
endfunction()

if(PHITUNE_PORTABLE)  # what the target machine need not have is linked statically or used header-only
  set(ZLIB_USE_STATIC_LIBS ON)
  set(Boost_USE_STATIC_LIBS ON)
  find_library(SQLite3_LIBRARY NAMES libsqlite3.a)
endif()

phitune_require(Threads libc6-dev)
phitune_require(CLI11 libcli11-dev)
phitune_require(SQLiteCpp libsqlitecpp-dev)
phitune_require(SQLite3 libsqlite3-dev 3.37)  # STRICT tables
phitune_require(nlohmann_json nlohmann-json3-dev 3.11)
phitune_require(tomlplusplus libtomlplusplus-dev 3)
phitune_require(fmt libfmt-dev 9)
phitune_require(ZLIB zlib1g-dev)
if(PHITUNE_PORTABLE)
  set(PHITUNE_FMT fmt::fmt-header-only)
  add_library(phitune_toml INTERFACE)
  target_compile_definitions(phitune_toml INTERFACE TOML_HEADER_ONLY=1)
  set(PHITUNE_TOML $<BUILD_INTERFACE:phitune_toml>)
else()
  set(PHITUNE_FMT fmt::fmt)
  set(PHITUNE_TOML tomlplusplus::tomlplusplus)
endif()
phitune_require(Boost libboost-context-dev 1.74 COMPONENTS context)  # fibers of the CPU emulator for kernels

find_package(CUDAToolkit 12.8 QUIET)  # cudaLibraryLoadData and its kin
if(NOT CUDAToolkit_FOUND)
  if(CUDAToolkit_VERSION)
    set(phitune_found_cuda " (found ${CUDAToolkit_VERSION})")
  endif()
  message(FATAL_ERROR "phitune needs the CUDA Toolkit, 12.8 or newer${phitune_found_cuda}; 13.0 is what it is tested with, with the runtime, NVRTC and cuBLAS "
                      "development packages. Install it from NVIDIA's packages, and set CUDAToolkit_ROOT or put nvcc on PATH. No GPU is needed to build.")
endif()
if(NOT TARGET CUDA::nvrtc)
  message(FATAL_ERROR "The CUDA Toolkit in ${CUDAToolkit_LIBRARY_ROOT} has no NVRTC. Install cuda-nvrtc-dev-${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR} from NVIDIA's packages.")
endif()
if(NOT TARGET CUDA::cudart_static)
  message(FATAL_ERROR "The CUDA Toolkit in ${CUDAToolkit_LIBRARY_ROOT} has no static runtime. Install cuda-cudart-dev-${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR} from NVIDIA's packages.")
endif()
