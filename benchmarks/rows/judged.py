"""What a row keeps of a report: bytes, the drop with its bound, and what it was judged by."""

from lilliput import Report

Judged = tuple[int, dict[str, float], dict[str, object]]  # bytes, errors, details


def of_report(report: Report) -> Judged:
    """Of the shipped file, against the original."""
    drop = next(limit for limit in report.limits if limit.name == "drop")
    size = int(report.artifact.storage_bytes or 0)
    errors = {"drop": float(drop.value or 0.0), "upper": float(drop.upper or 1.0)}
    details: dict[str, object] = {
        "score": report.artifact.score,
        "original_score": report.original.score,
        "proved": float(drop.verdict == "proved"),
        "times_smaller": int(report.original.storage_bytes or 0) / size,
    }
    if report.recovery is not None:
        details["learned"] = float(report.recovery.kept)
        details["learned_from_to"] = [report.recovery.before, report.recovery.after]
    return size, errors, details
