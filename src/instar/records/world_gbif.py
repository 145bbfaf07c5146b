"""GBIF's Darwin Core Archive for a drawn world: republished observations and a museum's specimens."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from instar.records.world_inaturalist import tab_separated, taxon_id_of
from instar.records.world_plan import Photograph, Plan, Record, stable_int, stable_uuid
from instar.records.world_spec import Group

INATURALIST_DATASET = "50c9509d-22c7-4a22-a47d-8c48425ef4a7"
MUSEUM_DATASET = stable_uuid("drawn museum")
AUTHORSHIP = "Pictor, 1901"

DWC, DC = "http://rs.tdwg.org/dwc/terms/", "http://purl.org/dc/terms/"
GBIF = "http://rs.gbif.org/terms/1.0/"
OCCURRENCE_TERMS = {
    "gbifID": GBIF,
    "accessRights": DC,
    "license": DC,
    "modified": DC,
    "publisher": DC,
    "references": DC,
    "rightsHolder": DC,
    "institutionCode": DWC,
    "collectionCode": DWC,
    "datasetName": DWC,
    "basisOfRecord": DWC,
    "occurrenceID": DWC,
    "catalogNumber": DWC,
    "recordedBy": DWC,
    "individualCount": DWC,
    "occurrenceStatus": DWC,
    "eventDate": DWC,
    "year": DWC,
    "month": DWC,
    "day": DWC,
    "countryCode": DWC,
    "decimalLatitude": DWC,
    "decimalLongitude": DWC,
    "coordinateUncertaintyInMeters": DWC,
    "geodeticDatum": DWC,
    "taxonID": DWC,
    "scientificName": DWC,
    "kingdom": DWC,
    "phylum": DWC,
    "class": DWC,
    "order": DWC,
    "family": DWC,
    "genus": DWC,
    "specificEpithet": DWC,
    "taxonRank": DWC,
    "taxonomicStatus": DWC,
    "datasetKey": GBIF,
    "issue": GBIF,
    "mediaType": GBIF,
    "hasCoordinate": GBIF,
    "taxonKey": GBIF,
    "acceptedTaxonKey": GBIF,
    "familyKey": GBIF,
    "genusKey": GBIF,
    "speciesKey": GBIF,
    "species": GBIF,
    "acceptedScientificName": GBIF,
}
MULTIMEDIA_TERMS = {
    "gbifID": GBIF,
    "type": DC,
    "format": DC,
    "identifier": DC,
    "references": DC,
    "title": DC,
    "description": DC,
    "created": DC,
    "creator": DC,
    "publisher": DC,
    "license": DC,
    "rightsHolder": DC,
}
LICENCE_URLS = {
    "CC0": "http://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "C": "All rights reserved",
    **{
        f"CC-{code}": f"http://creativecommons.org/licenses/{code.lower()}/4.0/legalcode"
        for code in ("BY", "BY-NC", "BY-SA", "BY-ND", "BY-NC-SA", "BY-NC-ND")
    },
}


def write_gbif(path: Path, plan: Plan) -> None:
    """GBIF's Darwin Core Archive: republished observations and all specimens."""
    records = [r for r in plan.records if r.specimen or r.republished]
    occurrences = "".join(tab_separated(OCCURRENCE_TERMS, (_occurrence(r, plan) for r in records)))
    media = (_media(r, p) for r in records for p in r.photographs)
    multimedia = "".join(tab_separated(MULTIMEDIA_TERMS, media))
    files = {
        "occurrence.txt": occurrences,
        "multimedia.txt": multimedia,
        "meta.xml": _meta_xml(),
        "metadata.xml": _eml(plan, len(records)),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, text.encode())


def _gbif_id(record: Record) -> int:
    return 4_000_000_000 + stable_int("gbif", record.record_id) % 900_000_000


def _occurrence(record: Record, plan: Plan) -> dict[str, object]:
    place = record.latitude is not None
    return {
        "gbifID": _gbif_id(record),
        "license": LICENCE_URLS[record.licence],
        "modified": "2024-01-01T00:00:00.000Z",
        "basisOfRecord": "PRESERVED_SPECIMEN" if record.specimen else "HUMAN_OBSERVATION",
        "occurrenceStatus": "PRESENT",
        "eventDate": record.observed_at.date() if record.specimen else record.observed_at.isoformat(),
        "year": record.observed_at.year,
        "month": record.observed_at.month,
        "day": record.observed_at.day,
        "countryCode": "ZZ",
        "decimalLatitude": record.latitude if record.latitude is None else round(record.latitude, 6),
        "decimalLongitude": record.longitude if record.longitude is None else round(record.longitude, 6),
        "coordinateUncertaintyInMeters": record.accuracy_m,
        "geodeticDatum": "WGS84" if place else None,
        "hasCoordinate": str(place).lower(),
        "mediaType": ";".join("StillImage" for _ in record.photographs),
        "issue": "GEODETIC_DATUM_ASSUMED_WGS84" if place and record.specimen else None,
        **(_museum_terms(record) if record.specimen else _inaturalist_terms(record)),
        **_names(record, plan),
    }


def _museum_terms(record: Record) -> dict[str, object]:
    return {
        "datasetKey": MUSEUM_DATASET,
        "datasetName": "Drawn ants of the Imaginary Museum",
        "publisher": "Imaginary Museum",
        "rightsHolder": "Imaginary Museum",
        "institutionCode": "IMM",
        "collectionCode": "ENT",
        "catalogNumber": record.record_id,
        "occurrenceID": f"urn:catalog:IMM:ENT:{record.record_id}",
        "references": f"https://museum.example/specimens/{record.record_id}",
        "recordedBy": "A. Pictor",
        "individualCount": 1,
    }


def _inaturalist_terms(record: Record) -> dict[str, object]:
    number = stable_int("observation number", record.record_id) % 200_000_000
    return {
        "datasetKey": INATURALIST_DATASET,
        "datasetName": "iNaturalist research-grade observations",
        "publisher": "iNaturalist.org",
        "rightsHolder": _person(record),
        "institutionCode": "iNaturalist",
        "collectionCode": "Observations",
        "catalogNumber": number,
        "occurrenceID": f"https://www.inaturalist.org/observations/{number}",
        "references": f"https://www.inaturalist.org/observations/{number}",
        "recordedBy": _person(record),
        "taxonID": taxon_id_of(record.label),
    }


def _person(record: Record) -> str:
    return (record.observer.name or record.observer.login) if record.observer else "Imaginary Museum"


def _names(record: Record, plan: Plan) -> dict[str, object]:
    synonym = plan.world.synonym
    accepted = synonym.accepted if record.label == synonym.name else record.label
    group = _group_of(accepted, plan)
    return {
        "scientificName": f"{record.label} {AUTHORSHIP}",
        "acceptedScientificName": f"{accepted} {AUTHORSHIP}",
        "taxonomicStatus": "ACCEPTED" if accepted == record.label else "SYNONYM",
        "taxonRank": record.rank.upper(),
        "kingdom": "Animalia",
        "phylum": "Arthropoda",
        "class": "Insecta",
        "order": group.order,
        "family": group.family,
        "genus": accepted.split()[0],
        "specificEpithet": record.label.split()[1] if record.rank == "species" else None,
        "species": accepted if record.rank == "species" else None,
        "taxonKey": _gbif_key(record.label),
        "acceptedTaxonKey": _gbif_key(accepted),
        "familyKey": 4342 if group.family == "Formicidae" else _gbif_key(group.family),
        "genusKey": _gbif_key(accepted.split()[0]),
        "speciesKey": _gbif_key(accepted) if record.rank == "species" else None,
    }


def _gbif_key(name: str) -> int:
    return 20_000_000 + stable_int("gbif taxon", name) % 9_000_000


def _group_of(name: str, plan: Plan) -> Group:
    others = {genus.name for genus in plan.world.others.genera}
    return plan.world.others if name.split()[0] in others else plan.world.ants


def _media(record: Record, photograph: Photograph) -> dict[str, object]:
    page = f"https://www.inaturalist.org/photos/{photograph.photo_id}"
    return {
        "gbifID": _gbif_id(record),
        "type": "StillImage",
        "format": "image/png" if photograph.extension == "png" else "image/jpeg",
        "identifier": photograph.url,
        "references": f"https://museum.example/specimens/{record.record_id}" if record.specimen else page,
        "title": f"{record.record_id}, {photograph.scene.view} view" if record.specimen else None,
        "created": photograph.taken,
        "creator": _person(record),
        "publisher": "Imaginary Museum" if record.specimen else "iNaturalist",
        "license": LICENCE_URLS[record.licence].removesuffix("legalcode"),
        "rightsHolder": _person(record),
    }


def _meta_xml() -> str:
    core = _file_xml("core", f"{DWC}Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    extension = _file_xml("extension", f"{GBIF}Multimedia", "multimedia.txt", MULTIMEDIA_TERMS)
    head = '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">'
    return f"<?xml version='1.0' encoding='utf-8'?>\n{head}\n{core}{extension}</archive>\n"


def _file_xml(kind: str, row_type: str, name: str, terms: Mapping[str, str]) -> str:
    identifier = "id" if kind == "core" else "coreid"
    fields = "".join(
        f'    <field index="{i}" term="{namespace}{term}"/>\n'
        for i, (term, namespace) in enumerate(terms.items())
        if i or kind == "core"  # GBIF names an extension's first column by coreid only
    )
    separators = r'fieldsTerminatedBy="\t" linesTerminatedBy="\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    return (
        f'  <{kind} encoding="utf-8" {separators} rowType="{row_type}">\n'
        f"    <files><location>{name}</location></files>\n"
        f'    <{identifier} index="0"/>\n{fields}  </{kind}>\n'
    )


def _eml(plan: Plan, count: int) -> str:
    doi = f"10.15468/dl.drawn{stable_int('doi', plan.world.name) % 10**4:04d}"
    name = escape(plan.world.name)
    citation = f"Drawn occurrence download of the world {name}: no such ants live anywhere. https://doi.org/{doi}"
    return (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<eml:eml xmlns:eml="eml://ecoinformatics.org/eml-2.1.1" packageId="'
        + doi
        + '" system="drawn" scope="system">\n'
        "  <dataset>\n"
        f"    <alternateIdentifier>https://doi.org/{doi}</alternateIdentifier>\n"
        f"    <title>Drawn occurrence download: {name}</title>\n"
        "    <pubDate>2024-01-01</pubDate>\n    <language>en</language>\n"
        f"    <abstract><para>{count} drawn occurrences; not an export of GBIF.</para></abstract>\n"
        "  </dataset>\n"
        f'  <additionalMetadata><metadata><gbif><citation identifier="{doi}">{citation}</citation></gbif></metadata>'
        "</additionalMetadata>\n</eml:eml>\n"
    )
