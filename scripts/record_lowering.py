"""Record the size of every public function's program as it is lowered for GPUs and TPUs.

    python scripts/record_lowering.py

The tests fail where a program has grown by half; run this when a larger one is meant, and look at what changed.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

TESTS = Path(__file__).parents[1] / "tests"


def main() -> None:
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_traceback_in_locations_limit", 0)
    from lowering.programs import lowered, programs  # type: ignore[import-not-found]

    path = TESTS / "lowering" / "sizes.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    after = {name: lowered(name, np.float32, ("cuda", "tpu")).bytes for name in sorted(programs())}
    path.write_text(json.dumps(after, indent=1, ensure_ascii=False) + "\n")
    for name in sorted({*before, *after}):
        old, new = before.get(name, 0), after.get(name, 0)
        if abs(new - old) > old / 10:
            print(f"{name}: {old:,} -> {new:,} bytes")


if __name__ == "__main__":
    main()
