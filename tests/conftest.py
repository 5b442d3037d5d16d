"""Strict arithmetic, eight faked devices and one compilation cache for the suite.

The environment is set before anything imports jax: the backend reads it once.
"""

import importlib.metadata
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the suite's time is compilation: unoptimised code compiles 2.5 times as fast.
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
]
# Later XLA has no other way to emit fusions, and ends the process at an unknown flag.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
for flag in FLAGS:
    if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import pathlib

import jax
import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Set jax's own switches; runs in each xdist worker as well."""
    gc.set_threshold(100_000, 50, 50)  # tracing makes many objects, and few cycles
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not cache and getattr(
        config, "cache", None
    ):  # no cache under -p no:cacheprovider
        cache = str(config.cache.mkdir("jax"))
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def shared():
    """Folder of the large oracles (`MEDJAX_SHARED` or `../shared`)."""
    path = pathlib.Path(os.environ.get("MEDJAX_SHARED") or REPO.parent / "shared")
    if not path.is_dir():
        pytest.skip(f"no oracle folder at {path}; set MEDJAX_SHARED")
    return path


@pytest.fixture(scope="module", autouse=True)
def _free_programs():
    """Drop jax's compiled programs after a file that leaves the process above 4 GiB."""
    yield
    resident = pathlib.Path("/proc/self/statm")
    if not resident.exists():
        return
    pages = int(resident.read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > 4 * 2**30:
        jax.clear_caches()
        gc.collect()
