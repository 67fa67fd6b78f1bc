"""A Dataset in Croissant 1.1, the description that data loaders and search engines read.

`mlcroissant validate` and `mlcroissant load` take it where it lies, beside the Dataset's files. The shards
are one FileSet; their hashes stand in `manifest.json`, whose own hash stands here.

Reference: Croissant Format Specification, version 1.1, MLCommons, http://mlcommons.org/croissant/1.1;
Croissant RAI, version 1.0, http://mlcommons.org/croissant/RAI/1.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedprep.card import facts
from fedprep.card.fields import record_set
from fedprep.card.licence import croissant_licence
from fedprep.schema import FORMAT, SPLITS

__all__ = ["CONTEXT", "croissant"]

PARQUET = "application/x-parquet"
SHARDS = "clients/part-*.parquet"
SPLIT_TYPES = {"train": "cr:TrainingSplit", "valid": "cr:ValidationSplit", "test": "cr:TestSplit"}

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes",
            "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
            "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "readLines", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "sdVersion", "separator", "source",
            "subField", "transform", "unArchive",
        )
    },
}  # fmt: skip
"""The specification's JSON-LD context, with the terms of 1.0 whose absence mlcroissant warns of."""


def croissant(
    manifest: Mapping[str, Any],
    *,
    manifest_sha256: str,
    manifest_bytes: int,
    licence_text: str = "",
) -> dict[str, Any]:
    """Returns the Croissant description of a Dataset as a JSON-LD tree.

    Args:
        manifest: the Dataset's.
        manifest_sha256, manifest_bytes: of the file `manifest.json`.
        licence_text: the owner's words on the use of the raw data.
    """
    source, name = manifest["source"], manifest["name"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": name,
        "description": _description(manifest),
        "version": f"{FORMAT}.0.0+{manifest['id'][:12]}",
        "identifier": f"sha256:{manifest['id']}",
        "url": source["homepage"] or f"urn:sha256:{manifest['id']}",
        "license": croissant_licence(source, licence_text),
        "citeAs": source["citation"] or f"{name}, Dataset {manifest['id'][:12]}, built by fedprep",
        "creator": _creator(source),
        "dateCreated": manifest["created"],
        "datePublished": manifest["created"],
        "keywords": ["recommendation", "federated learning", source["name"]],
        "isLiveDataset": False,
        "prov:wasDerivedFrom": [_raw_file(file) for file in source["files"]],
        **_responsible(manifest),
        "distribution": [
            _file("manifest.json", manifest_sha256, manifest_bytes, "application/json"),
            *_files(manifest["tables"]),
        ],
        "recordSet": _record_sets(manifest),
    }


def _description(manifest: Mapping[str, Any]) -> str:
    description = manifest["recipe"]["description"]
    start = f"{description}. " if description else ""
    return f"{start}{facts.summary(manifest)} {facts.labels(manifest)}"


def _creator(source: Mapping[str, Any]) -> dict[str, str]:
    if source["synthetic"]:
        return {"@type": "sc:Organization", "name": "fedprep"}
    link = {"url": source["homepage"]} if source["homepage"] else {}
    return {"@type": "sc:Organization", "name": f"the owners of {source['name']}", **link}


def _raw_file(file: Mapping[str, Any]) -> dict[str, str]:
    link = {"sc:url": file["url"]} if file["url"] else {}
    known = {"sc:sha256": file["sha256"]} if file["sha256"] else {}
    return {"@type": "prov:Entity", "sc:name": file["name"], **known, **link}


def _responsible(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the properties of the Croissant RAI vocabulary."""
    source, time_range = manifest["source"], manifest["facts"]["time_range"]
    kind = "Others" if source["synthetic"] else "User-generated content data"
    encoders = [
        f"{encoder['name']} ({encoder['library']}, weights {encoder['revision']})"
        for encoder in manifest["encoders"].values()
        if encoder.get("revision")
    ]
    dated = (
        {}
        if None in time_range
        else {"rai:dataCollectionTimeframe": list(map(facts.day, time_range))}
    )
    return {
        "rai:dataCollection": facts.collection(manifest),
        "rai:dataCollectionType": [kind, *([] if source["synthetic"] else ["Secondary Data analysis"])],
        "rai:dataCollectionMissingData": facts.missing(manifest),
        "rai:dataCollectionRawData": ", ".join(file["name"] for file in source["files"]),
        **dated,
        "rai:dataPreprocessingProtocol": [
            *facts.steps(manifest),
            f"Split by {manifest['split']['method']}: {manifest['split']['rule']}.",
            facts.partition(manifest),
        ],
        "rai:dataAnnotationProtocol": facts.labels(manifest),
        **({"rai:machineAnnotationTools": encoders} if encoders else {}),
        "rai:dataBiases": facts.biases(manifest),
        "rai:dataLimitations": facts.limitations(manifest),
        "rai:dataUseCases": ["Training, validation and testing of federated recommenders"],
        "rai:dataSocialImpact": "A recommender trained on past choices tends to repeat them, and with "
        "them the popularity of what was popular.",
        "rai:personalSensitiveInformation": facts.personal(manifest),
        "rai:dataReleaseMaintenancePlan": "A Dataset is never changed: a correction is a new build with a "
        "new id, and equal recipe and raw files give an equal id.",
    }  # fmt: skip


def _files(tables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, table in tables.items():
        if not name.startswith("clients/part-"):
            yield _file(name, table["sha256"], table["bytes"], PARQUET)
    yield {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "description": "Client shards. The SHA-256 of each stands in manifest.json.",
        "encodingFormat": PARQUET,
        "includes": SHARDS,
    }


def _file(name: str, sha256: str, n_bytes: int, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{n_bytes} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _record_sets(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = manifest["tables"]
    shard = next(table for name, table in tables.items() if name.startswith("clients/part-"))
    sets = [
        _splits(),
        record_set("items", tables["items.parquet"]["columns"], file="items.parquet"),
        record_set("users", tables["users.parquet"]["columns"], file="users.parquet"),
        record_set("interactions", shard["columns"], file_set="shards"),
        record_set(
            "clients", tables["clients/index.parquet"]["columns"], file="clients/index.parquet"
        ),
    ]
    for name, table in tables.items():
        if name.startswith("embeddings/"):
            modality = name.removeprefix("embeddings/").removesuffix(".parquet")
            sets.append(record_set(f"embeddings-{modality}", table["columns"], file=name))
    return sets


def _splits() -> dict[str, Any]:
    """Returns the three splits as Croissant names them."""
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "What the rows of a split are for.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": ["sc:URL", "cr:Split"]},
        ],
        "data": [{"splits/name": name, "splits/url": SPLIT_TYPES[name]} for name in SPLITS],
    }  # fmt: skip
