#include "bind/dlpack.hpp"

#include <cstdint>

namespace stepsize {
namespace {

// The parts of DLPack 1 that are read here, with the names of its dlpack.h.
struct DLDevice {
    int32_t device_type, device_id;
};

struct DLDataType {
    uint8_t code, bits;
    uint16_t lanes;
};

struct DLTensor {
    void* data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct DLPackExchangeAPI {
    uint32_t major, minor;
    DLPackExchangeAPI* previous;
    void *allocator, *managed_from_object, *managed_to_object;
    int (*tensor_from_object)(void* object, DLTensor* out); // without a reference to the memory
};

constexpr int32_t cpu = 1;
constexpr uint8_t floating = 2;

// A type's table of functions, or null. The last type is cached, since a step usually sees only
// one.
const DLPackExchangeAPI* exchange_of(PyTypeObject* type) {
    static PyTypeObject* known = nullptr;
    static const DLPackExchangeAPI* found = nullptr;
    if (type == known)
        return found;
    const py::object capsule = py::reinterpret_steal<py::object>(
        PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__"));
    void* table = capsule ? PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api") : nullptr;
    PyErr_Clear();
    auto* api = static_cast<const DLPackExchangeAPI*>(table);
    while (api && api->major != 1)
        api = api->previous;
    Py_INCREF(type); // so that no other type takes its place in memory
    Py_XDECREF(known);
    known = type;
    found = api && api->tensor_from_object ? api : nullptr;
    return found;
}

bool is_plain_tensor(const DLTensor& tensor, Dtype dtype, const std::vector<Py_ssize_t>& shape) {
    if (tensor.device.device_type != cpu || tensor.dtype.code != floating ||
        tensor.dtype.lanes != 1 || tensor.dtype.bits != 8 * item_size(dtype) ||
        size_t(tensor.ndim) != shape.size())
        return false;
    int64_t reach = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
        if (tensor.shape[axis] != shape[axis])
            return false;
        if (tensor.strides && shape[axis] != 1 && tensor.strides[axis] != reach)
            return false;
        reach *= shape[axis];
    }
    return true;
}

// False for objects that are not such tensors.
bool read(PyObject* object, DLTensor& tensor) {
    const DLPackExchangeAPI* api = exchange_of(Py_TYPE(object));
    if (api && api->tensor_from_object(object, &tensor) == 0)
        return true;
    PyErr_Clear();
    return false;
}

} // namespace

char* tensor_data(PyObject* object, Dtype dtype, const std::vector<Py_ssize_t>& shape) {
    DLTensor tensor = {};
    if (!read(object, tensor))
        return nullptr;
    char* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
    const bool aligned = reinterpret_cast<uintptr_t>(data) % item_size(dtype) == 0;
    return aligned && is_plain_tensor(tensor, dtype, shape) ? data : nullptr;
}

py::bytes layout(const py::list& groups) {
    std::vector<PyObject*> tensors;
    std::vector<int64_t> found;
    for (py::handle group : groups) {
        const py::list members = group.cast<py::list>();
        for (py::handle member : members)
            tensors.push_back(member.ptr());
        found.push_back(int64_t(members.size()));
    }
    found.reserve(found.size() + 8 * tensors.size());
    for (PyObject* object : tensors) {
        found.push_back(int64_t(reinterpret_cast<intptr_t>(object)));
        DLTensor tensor = {};
        if (!read(object, tensor)) {
            found.push_back(py::handle(object).attr("data_ptr")().cast<int64_t>());
            continue;
        }
        found.push_back(int64_t(reinterpret_cast<intptr_t>(tensor.data)));
        found.push_back(tensor.dtype.code << 8 | tensor.dtype.bits);
        found.insert(found.end(), tensor.shape, tensor.shape + tensor.ndim);
        if (tensor.strides)
            found.insert(found.end(), tensor.strides, tensor.strides + tensor.ndim);
    }
    return {reinterpret_cast<const char*>(found.data()), found.size() * sizeof(int64_t)};
}

} // namespace stepsize
