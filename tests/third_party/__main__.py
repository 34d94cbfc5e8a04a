"""Run the test suites of LangChain and LangGraph without and with gati, and report every difference.

    python -m tests.third_party                  all suites in full (a quarter of an hour)
    python -m tests.third_party --short          a few hundred tests (CI)
    python -m tests.third_party langgraph        one suite

The tests come from the source distributions of the installed versions. Everything is kept in a
temporary folder (`--folder`), not in this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from tests.servers import greenflash_server
from tests.third_party.suites import REQUIREMENTS, SUITES, Suite

ROOT = Path(__file__).resolve().parents[2]
Results = dict[str, str]


def main() -> int:
    """Run the chosen suites; return 0 if gati changes no outcome and reports no error."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.third_party", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="default: all")
    parser.add_argument("--short", action="store_true", help="the selection for CI")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gati-foreign")
    chosen = parser.parse_args()
    python = environment(chosen.folder)
    worst = 0
    for name in chosen.suites or SUITES:
        worst |= compare(SUITES[name], chosen.folder, python, chosen.short)
    return worst


def environment(folder: Path) -> Path:
    """Create a virtual environment with the requirements of the suites, gati, and the installed versions."""
    home = folder / "venv"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    pinned = [f"{suite.package}=={version(suite.package)}" for suite in SUITES.values()]
    command = [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS, *pinned, "-e", f"{ROOT}[studio]"]
    subprocess.run(command, check=True)
    return python


def source(suite: Suite, folder: Path) -> Path:
    """Download and unpack the source of the installed version; return its folder."""
    wanted = version(suite.package)
    home = folder / f"{suite.package.replace('-', '_')}-{wanted}"
    if suite.repository:
        if not home.exists():
            clone = ["git", "clone", "-q", "--depth", "1", "--branch", f"{suite.package}=={wanted}", suite.repository]
            subprocess.run([*clone, str(home)], check=True)
        return home / suite.subdirectory
    if not home.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", suite.package]
        subprocess.run([*command, "-d", str(folder), f"{suite.package}=={wanted}"], check=True)
        with closing(tarfile.open(folder / f"{home.name}.tar.gz")) as archive:
            archive.extractall(folder, filter="data")
    return home


def compare(suite: Suite, folder: Path, python: Path, short: bool) -> int:
    """Run a suite without and with gati and print the differences; return 1 if one has no known reason."""
    try:
        home = source(suite, folder)
    except subprocess.CalledProcessError:
        print(
            f"{suite.package} {version(suite.package)}: {'skipped: ' if short else ''}its source cannot be downloaded"
        )
        return 0 if short and suite.repository else 1
    tests = suite.short if short else suite.tests
    print(f"{suite.package} {version(suite.package)}: {' '.join(tests)}", flush=True)
    without = run(suite, home, python, tests, None)
    with greenflash_server() as server:
        with_gati = run(suite, home, python, tests, server.url)
        unknown = sorted(set(server.unknown_keys))
    report = json.loads((home / "gati.json").read_text())
    differences = different(without, with_gati)
    known = suite.reasons
    if differences.keys() - known.keys():
        # Some tests depend on timing and are flaky without gati too. Keep only differences that
        # occur twice.
        with greenflash_server() as server:
            again = different(without, run(suite, home, python, tests, server.url))
        print(f"  differed only once: {sorted(differences.keys() - again.keys())}")
        differences = {name: seen for name, seen in differences.items() if name in again}
    for name, (was, now) in sorted(differences.items()):
        print(f"  differs: {name}: {was} without, {now} with gati; {known.get(name, 'NO KNOWN REASON')}")
    print(f"  {len(without)} tests, {sum(v == 'passed' for v in without.values())} pass without gati, ", end="")
    print(f"{len(differences)} differ; {report['turns']} turns, {report['delivered']} messages delivered")
    wrong = [name for name in differences if name not in known]
    if "passed" not in without.values():
        wrong.append("no tests")
        print(f"  no test passes without gati; see {home / 'without.log'}")
    if not report["turns"]:
        wrong.append("no turns")
        print("  gati recorded nothing")
    for fault in ("faults", "logged", "dropped", "turns_dropped", "rejected", "timed_out"):
        if report[fault]:
            wrong.append(fault)
            print(f"  {fault}: {report[fault]}")
    if unknown or not report["balanced"]:
        wrong.append("unknown keys")
        print(f"  unknown keys: {unknown}; balanced: {report['balanced']}")
    left = [test for test in report["left_open"] if test.split("::")[-1].split("[")[0] not in suite.never_closed]
    if left:
        wrong.append("left open")
        print(f"  runs left open although the program closed them: {left}", flush=True)
    return 1 if wrong else 0


def different(without: Results, with_gati: Results) -> dict[str, tuple[str, str]]:
    """Return the tests whose outcomes differ: name → (without, with gati)."""
    return {name: (was, with_gati.get(name, "missing")) for name, was in without.items() if with_gati.get(name) != was}


def run(suite: Suite, home: Path, python: Path, tests: tuple[str, ...], server: str | None) -> Results:
    """Run the tests, with gati if there is a `server`; return the outcome of each."""
    report = home / "junit.xml"
    report.unlink(missing_ok=True)
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("GATI_", "GREENFLASH_", "LANGSMITH_", "LANGCHAIN_"))
    }
    env |= {"NO_DOCKER": "true", "PYTHONPATH": str(home)}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", f"--junitxml={report}"]
    if server is not None:
        env |= {"FOREIGN_SERVER": server, "FOREIGN_REPORT": str(home / "gati.json")}
        # The suites have a package `tests` too, so the plugin is copied under another name.
        plugin = home / "gati_plugin.py"
        plugin.write_text((Path(__file__).parent / "plugin.py").read_text())
        command += ["-p", "gati_plugin", "--gati-deliver"]
    with (home / f"{'with' if server else 'without'}.log").open("w") as log:
        subprocess.run(
            [*command, *suite.arguments, *tests], cwd=home, env=env, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    return outcomes(report)


def outcomes(report: Path) -> Results:
    """Return the outcome of each test in a JUnit file."""
    found: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        tags = {child.tag for child in case}
        found[name] = (
            "failed"
            if "failure" in tags
            else "error"
            if "error" in tags
            else "skipped"
            if "skipped" in tags
            else "passed"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
