#include "harness/error.hpp"
