"""An installed wheel, away from the source: a step, a schedule, a range test, a saved state."""

import numpy as np

import stepsize as ss

assert "site-packages" in ss.__file__, ss.__file__
info = ss.build_info()
assert info["openmp"] and info["target"] in info["available_targets"], info


def value_and_grad(params, batch):
    return float(params @ params) / 2, params.copy()


x = np.ones(200_000, np.float32)
found = ss.lr_find(value_and_grad, x, [None], optimizer=ss.SGD)
opt = ss.AdamW(x, lr=ss.schedules.warmup_cosine(0.1, 10, 100))
for _ in range(100):
    opt.step(value_and_grad(x, None)[1])
assert found.usable and np.abs(x).max() < 0.1
ss.save("smoke.safetensors", x, opt)
print(f"stepsize {ss.__version__} on {info['target']}: as it should be")
