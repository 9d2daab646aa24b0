// The side of a worker process: owns the device, answers one request at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "harness/device/device.hpp"

namespace phitune::worker {

using OpenDevice = std::function<std::unique_ptr<Device>(const std::string& name, Use use)>;

/// Serves the connection at `descriptor` until the other side closes it (then returns) or a candidate has damaged the device: then the
/// process ends here and now, without destructors, which would wait for a kernel that never ends. Exceptions that are no Error get out.
void serve(int descriptor, const OpenDevice& open);

}  // namespace phitune::worker
