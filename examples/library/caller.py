"""Calls the library from Python by ctypes and NumPy alone, without stager:

python -m stager build model.toml -o out
python caller.py out/libmodel.so
"""

import ctypes
import sys

import numpy as np


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def main(path):
    library = ctypes.CDLL(path)
    signal = np.array([0.0, 2.0, 1.0, 5.0, 1.0, 0.0, 3.0, 3.0, 0.0, 4.0, 0.0, 9.0])
    threshold, count = np.array(2.5), ctypes.c_int64()

    def peaks(room):
        return library.peaks(
            pointer(signal), pointer(threshold), pointer(room), ctypes.c_int64(room.size), ctypes.byref(count),
            ctypes.c_int64(signal.size), None,
        )  # fmt: skip

    code = peaks(np.empty(1, np.int64))
    text = ctypes.create_string_buffer(100)
    library.peaks_error(code, None, text, ctypes.c_int64(100))
    print(text.value.decode(), count.value)
    room = np.empty(count.value, np.int64)
    assert peaks(room) == 0
    print(*room)
    # an array with strides: any of NumPy's
    x = np.linspace(-1, 1, 40).reshape(4, 10)[:, ::2].T
    strides = (ctypes.c_int64 * 2)(*x.strides)
    w1, b1, w2, b2 = np.ones((4, 8)), np.zeros(8), np.eye(8)[:, :3].copy(), np.zeros(3)
    out = np.empty((5, 3))
    given = [argument for a in (w1, b1, w2, b2) for argument in (pointer(a), None)]
    assert library.predict(*given, pointer(x), strides, pointer(out), ctypes.c_int64(5), None) == 0
    print(*out.sum(axis=1).round(12))


if __name__ == "__main__":
    main(sys.argv[1])
