"""What is sent to SLURM and Kubernetes: the script and the manifest, as far as that can be judged without a cluster."""

import importlib.resources
import shlex
from itertools import pairwise

import pytest
import yaml
from dask_jobqueue.slurm import SLURMJob
from jsonschema import Draft202012Validator

from flows.cluster_jobs import NVIDIA_GPU, kubernetes_manifest, slurm_job
from flows.cluster_kinds import STARTERS
from flows.settings import PROFILES, load_settings
from tasks.settings import ClusterSettings
from vertebra_core.errors import WrongUse

API = "http://head:4200/api"


@pytest.fixture(autouse=True)
def _server(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", API)
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_very_secret")
    monkeypatch.setenv("VERTEBRA_PSEUDONYM_SECRET", "very_secret")


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_profile_loads_and_its_kind_can_be_started(path):
    assert load_settings(path.stem).cluster.kind in STARTERS


def test_every_kind_has_its_starter():
    kinds = ClusterSettings.__dataclass_fields__["kind"].type
    assert set(STARTERS) == set(kinds.__args__)


def script(**flags) -> tuple[str, list[str]]:
    """A job's script, and the words of the command in it that starts the workers."""
    settings = load_settings("slurm", {name.replace("__", "."): value for name, value in flags.items()})
    text = SLURMJob("tcp://head:8786", name="w", config_name="slurm", **slurm_job(settings)).job_script()
    (command,) = [line for line in text.splitlines() if "distributed.cli.dask_worker" in line]
    return text, shlex.split(command)


def test_a_slurm_job_asks_for_what_its_workers_take():
    text, command = script(
        cluster__queue="gpu", cluster__account="spine", cluster__prologue=["module load cuda"], run__threads=2
    )
    wanted = [
        "#SBATCH -p gpu",
        "#SBATCH -A spine",
        "#SBATCH -t 12:00:00",
        "#SBATCH --cpus-per-task=8",  # four workers of two threads
        "#SBATCH --mem=49152M",  # four times 4 GiB for a worker and 8 GiB for its study
        "#SBATCH --gres=gpu:1",
        "module load cuda",
        f"export PREFECT_API_URL={API}",
        "export DASK_DISTRIBUTED__WORKER__DAEMON=False",
        "export OMP_NUM_THREADS=2",
    ]
    assert [line for line in wanted if line not in text.splitlines()] == []
    after = dict(pairwise(command))
    assert after["distributed.cli.dask_worker"] == "tcp://head:8786"
    assert (after["--nworkers"], after["--nthreads"], after["--memory-limit"]) == ("4", "1", "4.00GiB")
    assert after["--resources"] == "GPU=0.25"
    assert "secret" not in text


def test_a_slurm_job_without_a_gpu_asks_for_none_and_sees_none():
    text, command = script(run__device="cpu", cluster__directives=["--constraint=avx512"])
    assert "#SBATCH --constraint=avx512" in text
    assert "export CUDA_VISIBLE_DEVICES=''" in text
    assert "gres" not in text
    assert "--resources" not in command


def test_a_directive_that_asks_for_gpus_stands_alone():
    text, _ = script(cluster__directives=["--gpus-per-node=a100:1"])
    assert "#SBATCH --gpus-per-node=a100:1" in text
    assert "gres" not in text


def manifest(**flags) -> dict:
    settings = load_settings("kubernetes", {name.replace("__", "."): value for name, value in flags.items()})
    return kubernetes_manifest(settings, 100, "vertebra-1")


@pytest.mark.parametrize(
    "flags",
    [{}, {"run__device": "cpu"}, {"cluster__claims": ["archive:/archive:ro"], "cluster__secrets": ["s3-keys"]}],
    ids=str,
)
def test_a_manifest_fits_the_schema_that_the_operator_installs(flags):
    chart = importlib.resources.files("dask_kubernetes.operator") / "deployment/helm/dask-kubernetes-operator"
    definition = yaml.safe_load((chart / "crds/daskcluster.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    found = manifest(**flags)
    assert found["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    assert found["kind"] == definition["spec"]["names"]["kind"]
    schema = version["schema"]["openAPIV3Schema"]
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(found)] == []
    found["spec"]["worker"]["spec"]["containers"][0].pop("name")
    assert [error.message for error in validator.iter_errors(found)] == ["'name' is a required property"]


def test_pods_share_one_gpu_and_the_scheduler_takes_none():
    spec = manifest()["spec"]
    worker, scheduler = (spec[part]["spec"]["containers"][0] for part in ("worker", "scheduler"))
    assert spec["worker"]["replicas"] == 2  # eight workers, four in a pod
    assert worker["resources"]["limits"] == {"memory": "49152Mi", "cpu": "4", NVIDIA_GPU: "1"}
    assert NVIDIA_GPU not in scheduler["resources"]["limits"]
    assert scheduler["args"][:2] == ["dask", "scheduler"]
    assert worker["args"][:2] == ["dask", "worker"]
    after = dict(pairwise(worker["args"]))
    assert (after["--nworkers"], after["--resources"]) == ("4", "GPU=0.25")
    variables = {one["name"]: one["value"] for one in worker["env"]}
    assert (variables["PREFECT_API_URL"], variables["DASK_DISTRIBUTED__WORKER__DAEMON"]) == (API, "False")
    assert "secret" not in str(manifest())


def test_claims_are_mounted_and_secrets_named():
    pod = manifest(cluster__claims=["archive:/archive:ro", "cohorts:/cohorts"], cluster__secrets=["s3-keys"])
    pod = pod["spec"]["worker"]["spec"]
    assert [(one["mountPath"], one["readOnly"]) for one in pod["containers"][0]["volumeMounts"]] == [
        ("/archive", True),
        ("/cohorts", False),
    ]
    assert [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"]] == ["archive", "cohorts"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "s3-keys"}}]
    with pytest.raises(WrongUse, match=r"cluster\.claims: 'archive': expected CLAIM:/PATH"):
        manifest(cluster__claims=["archive"])
