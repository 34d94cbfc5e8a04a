"""The manifests of `deploy/kubernetes/`, checked against the schemas of Kubernetes' API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_compose import DEPLOY

CUSTOM = {"keda.sh/v1alpha1"}
"""API versions that a cluster has from elsewhere, so that there is no schema."""


def manifests() -> list[tuple[Path, dict[str, Any]]]:
    return [
        (path, manifest)
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
    ]


@pytest.mark.parametrize(
    "manifest", [pytest.param(found, id=f"{path.name} {found['kind']}") for path, found in manifests()]
)
def test_manifests_match_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    if manifest["apiVersion"] in CUSTOM:
        target = manifest["spec"]["scaleTargetRef"]["name"]
        assert target in {found["metadata"]["name"] for _, found in manifests() if found["kind"] == "Deployment"}
    else:
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_a_misspelt_field_of_a_manifest_is_noticed() -> None:
    _, manifest = next(found for found in manifests() if found[1]["kind"] == "Deployment")
    manifest["spec"]["replica"] = manifest["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_selectors_choose_the_pods_of_their_deployment() -> None:
    labels = [
        found["spec"]["template"]["metadata"]["labels"] for _, found in manifests() if found["kind"] == "Deployment"
    ]
    for _, manifest in manifests():
        if "selector" in manifest["spec"]:
            assert manifest["spec"]["selector"]["matchLabels"] in labels
