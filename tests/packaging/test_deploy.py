"""What deploys the server: container, compose, systemd, Kubernetes; run where it can be, else checked."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rstmdb_server.config import ENVIRONMENT, load_settings
from rstmdb_server.http import OperatorHttp
from tests.operators.conftest import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def instructions(text):
    """Return (word, rest) for each instruction of a Dockerfile, continued lines joined, by stage."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", text))
    stages = []
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word and stages:
            stages[-1].append((word, rest.strip()))
    return stages


STAGES = instructions((DEPLOY / "Dockerfile").read_text())
FINAL = dict(STAGES[-1])


def environment():
    return dict(word.split("=", 1) for word in shlex.split(FINAL["ENV"]))


# --- container --------------------------------------------------------------------------------------------


def test_the_image_is_what_existing_set_ups_expect():
    assert FINAL["WORKDIR"] == "/data"
    assert json.loads(FINAL["ENTRYPOINT"]) == ["rstmdb"]
    assert FINAL["USER"] == "1000:1000"
    assert FINAL["EXPOSE"].split() == ["7401", "9090"]
    expected = {"RUST_LOG": "info", "RSTMDB_BIND": "0.0.0.0:7401", "RSTMDB_DATA": "/data"}
    assert environment().items() >= expected.items()
    settings = load_settings(path=None, environ=environment()).settings
    assert settings.metrics.bind_addr == "0.0.0.0:9090"
    assert settings.storage.data_dir == "/data"


def test_only_the_packages_go_into_the_build():
    copied = [rest.split() for word, rest in STAGES[0] if word == "COPY"]
    assert copied == [["packages", "./packages"]]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[:2] == ["*", "!packages"]
    [install] = [rest for word, rest in STAGES[0] if "pip install" in rest]
    named = set(re.findall(r"\./packages/(\S+)", install))
    assert named == {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}


def namespace_works():
    return (
        os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not shutil.which("unshare") or not namespace_works(), reason="needs a mount namespace of its own"
)
@pytest.mark.timeout(600)
def test_the_run_and_cmd_lines_work_in_a_bare_environment(tmp_path):
    """Run every RUN line, then the server as its user, then the health check, over directories of our own.

    A mount namespace puts them at the paths the Dockerfile names, so the lines run as they stand.
    """
    places = ("/src", "/opt/rstmdb", "/data", "/config")
    for place in (*places, "/home"):
        (tmp_path / place[1:]).mkdir(parents=True)
    mount_points = [Path(place) for place in places if not Path(place).exists()]
    # What `COPY packages` would copy.
    shutil.copytree(
        ROOT / "packages",
        tmp_path / "src/packages",
        ignore=shutil.ignore_patterns("__pycache__", "tests", ".pytest_cache", "*.egg-info"),
    )
    etc = tmp_path / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore=lambda d, names: [n for n in names if "systemd" in n])
    for name, line in (
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("shadow", "root:*::\n"),
    ):
        (etc / name).write_text(line)
    (etc / "gshadow").unlink(missing_ok=True)
    runs = [rest for stage in STAGES for word, rest in stage if word == "RUN"]
    health = json.loads(FINAL["HEALTHCHECK"].partition("CMD ")[2])
    entry = json.loads(FINAL["ENTRYPOINT"])
    image = environment()
    # Other servers run on this machine: only the ports differ from the image.
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("RSTMDB_BIND", "RSTMDB_METRICS_BIND")}
    assert ports.keys() <= image.keys()
    run_as_user = "setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs --bounding-set=-all"
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in (image | ports).items())
    script = f"""
set -eu
mount --make-rprivate /
for place in {" ".join(places)}; do mkdir -p $place; mount --bind {tmp_path}$place $place; done
mount --bind {etc} /etc
cd /src
{chr(10).join(f"sh -c {shlex.quote(line)}" for line in runs)}
cd /data
test "$(stat -c %u:%g /data)" = {FINAL["USER"]}
mount -o remount,ro,bind /opt/rstmdb
env -i {variables} {run_as_user} {shlex.join(entry)} &
server=$!
healthy() {{ env -i {variables} {run_as_user} {shlex.join(health)}; }}
tries=0
until healthy 2>/data/health.log; do
  tries=$((tries + 1))
  test $tries -lt 100 && kill -0 $server
  sleep 0.2
done
env -i {variables} {run_as_user} rstmdb-cli -s {ports["RSTMDB_BIND"]} ping
kill -TERM $server
wait $server
healthy 2>/dev/null && exit 9
ls /data/wal >/dev/null
echo served as "$(stat -c %u /data/wal)"
"""
    passed = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))
    }
    passed |= {
        name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ
    }
    bare = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(tmp_path / "home"),
    }
    for directory in (tmp_path, *tmp_path.parents):  # the user of the image looks through these
        if directory != Path("/") and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script],
            env=bare | passed,
            capture_output=True,
            text=True,
            timeout=550,
        )
    finally:
        for place in mount_points:
            place.rmdir()  # only where the mounts went; they ended with their namespace
    assert done.returncode == 0, done.stdout + done.stderr
    assert "served as 1000" in done.stdout
    assert f"is ready on {ports['RSTMDB_BIND']}" in done.stderr


def test_the_compose_file_is_consistent():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    server = compose["services"]["rstmdb"]
    assert (DEPLOY / server["build"]["context"]).resolve() == ROOT
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert set(server["environment"]) <= set(ENVIRONMENT)
    declared = set(compose["volumes"])
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in declared or (DEPLOY / source).exists()
        # Nothing is open to the network unless somebody says so.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["rstmdb:9090"]}]
    assert (job["metrics_path"], prometheus["global"]["scrape_interval"]) == ("/metrics", "5s")


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command here")
def test_compose_reads_its_file():
    done = subprocess.run(
        ["docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet"],
        capture_output=True,
        text=True,
    )
    if "is not a docker command" in done.stderr or "unknown shorthand flag" in done.stderr:
        pytest.skip("docker has no compose here")
    assert done.returncode == 0, done.stderr


# --- systemd ----------------------------------------------------------------------------------------------


def unit_lines():
    return (DEPLOY / "systemd/rstmdb.service").read_text().splitlines()


def test_the_unit_names_what_the_server_does():
    values = {}
    for line in unit_lines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values[key] = value
    assert values["Type"] == "notify-reload"
    assert values["ExecStart"].split()[:2] == ["/opt/rstmdb/bin/rstmdb", "--config"]
    assert values["RestartPreventExitStatus"].split() == ["2", "3"]
    from rstmdb_server import exit_codes

    assert {2, 3} == {exit_codes.USAGE, exit_codes.DATA_DAMAGED}
    name, _, value = values["Environment"].partition("=")
    assert ENVIRONMENT[name] == ("storage", "data_dir")
    assert value == f"/var/lib/{values['StateDirectory']}"
    settings, warnings = load_settings(path=str(DEPLOY / "systemd/rstmdb.yaml"), environ={name: value})
    assert warnings == []
    assert settings.network.bind_addr == "127.0.0.1:7401"


def unit_copy(tmp_path):
    """The unit with a command that exists here."""
    copy = tmp_path / "rstmdb.service"
    copy.write_text("\n".join(unit_lines()).replace("/opt/rstmdb/bin/rstmdb", shutil.which("env")) + "\n")
    return copy


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit_copy(tmp_path)], capture_output=True, text=True
    )
    version = int(
        re.search(r"systemd (\d+)", subprocess.check_output(["systemd-analyze", "--version"], text=True))[1]
    )
    complaints = [line for line in done.stderr.splitlines() if "rstmdb.service" in line]
    if version < 253:  # the unit says so itself
        complaints = [line for line in complaints if not line.endswith("ignoring: notify-reload")]
    assert complaints == []
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_hardened(tmp_path):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit_copy(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:]  # an exposure of at most 2.0 of 10


# --- Kubernetes -------------------------------------------------------------------------------------------


def test_the_kubernetes_example_fits_together(tmp_path):
    config, service, stateful = yaml.safe_load_all((DEPLOY / "kubernetes/rstmdb.yaml").read_text())
    spec = stateful["spec"]["template"]["spec"]
    [container] = spec["containers"]
    [(file, text)] = config["data"].items()
    (tmp_path / file).write_text(text)
    settings, warnings = load_settings(path=str(tmp_path / file), environ={})
    assert warnings == []
    assert settings.auth.required
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert settings.storage.data_dir in mounts
    assert os.path.dirname(settings.auth.secrets_file) in mounts
    [variable] = container["env"]
    assert variable == {"name": "RSTMDB_CONFIG", "value": f"/config/{file}"}
    assert mounts["/config"] == "config"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.network.bind_addr.endswith(f":{ports['rstmdb']}")
    assert settings.metrics.bind_addr.endswith(f":{ports['operators']}")
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    routes = OperatorHttp(None)._routes
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert get["path"] in routes
        assert get["port"] in ports
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    assert set(mounts.values()) == volumes
    assert stateful["spec"]["replicas"] == 1
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == stateful["spec"]["selector"]["matchLabels"] == labels
