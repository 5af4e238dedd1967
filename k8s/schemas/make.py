"""Makes the JSON Schemas beside this file from the projects' own published definitions.

    python k8s/schemas/make.py SWAGGER_JSON CRD_YAML...

SWAGGER_JSON is `api/openapi-spec/swagger.json` of the Go module k8s.io/kubernetes. The CRDs come
from the Go modules github.com/kedacore/keda/v2 (`config/crd/bases`) and
github.com/prometheus-operator/prometheus-operator (`example/prometheus-operator-crd`), and from
Strimzi's own generator (Maven: io.strimzi:crd-generator and io.strimzi:api, Java 21). Only kinds
that the manifests use are kept, without descriptions. Unknown fields are errors.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KINDS = {
    "apps/v1": ["Deployment", "StatefulSet"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["Job"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "v1": [
        "ConfigMap",
        "Namespace",
        "PersistentVolumeClaim",
        "Secret",
        "Service",
        "ServiceAccount",
    ],
}
INT_OR_STRING = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
# The API server takes numbers here as well, but a manifest that has one in quotes and one without
# is a trap: strings only.
SPECIAL = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "type": "string",
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
    },
}
KEPT = (
    "type", "format", "enum", "required", "pattern", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "oneOf", "anyOf",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Write all schemas."""
    swagger, *crds = arguments
    definitions = json.loads(Path(swagger).read_text())["definitions"]
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            version = "/".join(filter(None, (kind["group"], kind["version"])))
            if kind["kind"] in KINDS.get(version, []):
                _write(version, kind["kind"], _builtin(definitions, name, version, kind["kind"]))
    for path in crds:
        crd = yaml.safe_load(Path(path).read_text())["spec"]
        for version in crd["versions"]:
            if version.get("deprecated") or not version["served"]:
                continue
            schema = _strict(version["schema"]["openAPIV3Schema"])
            api = f"{crd['group']}/{version['name']}"
            # The definition of a custom resource says nothing about its metadata.
            name = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
            schema["properties"]["metadata"] = {"$ref": f"#/definitions/{name}"}
            schema["definitions"] = _reachable(definitions, name)
            _write(api, crd["names"]["kind"], _identified(schema, api, crd["names"]["kind"]))
    return 0


def _builtin(definitions: dict[str, Any], name: str, version: str, kind: str) -> dict[str, Any]:
    schema = _strict(definitions[name])
    found = _reachable(definitions, name)
    found.pop(name)
    schema["definitions"] = found
    return _identified(schema, version, kind)


def _identified(schema: dict[str, Any], version: str, kind: str) -> dict[str, Any]:
    schema["properties"]["apiVersion"] = {"type": "string", "enum": [version]}
    schema["properties"]["kind"] = {"type": "string", "enum": [kind]}
    required = {*schema.get("required", []), "apiVersion", "kind", "metadata"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "required": sorted(required),
    }


def _reachable(definitions: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = [name]
    while left:
        current = left.pop()
        if current in found:
            continue
        found[current] = (
            _strict(definitions[current]) if current not in SPECIAL else SPECIAL[current]
        )
        left.extend(_references(found[current]))
    return dict(sorted(found.items()))


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"].rsplit("/", 1)[1]] if isinstance(value.get("$ref"), str) else []
    return own + [name for item in value.values() for name in _references(item)]


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without descriptions, and closed to unknown fields."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if schema.get("x-kubernetes-int-or-string"):
        return INT_OR_STRING
    kept = {key: schema[key] for key in KEPT if key in schema}
    if "properties" in schema:
        kept["properties"] = {key: _strict(part) for key, part in schema["properties"].items()}
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _strict(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = _strict(schema["items"])
    return kept


def _write(version: str, kind: str, schema: dict[str, Any]) -> None:
    group, _, number = version.rpartition("/")
    folder = HERE / (group or version)  # kubeconform looks for the core kinds in `v1`
    folder.mkdir(exist_ok=True)
    path = folder / f"{kind.lower()}_{number}.json"
    path.write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")
    print(f"{path.relative_to(HERE)}: {path.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
