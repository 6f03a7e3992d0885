"""The parts of the report stage: reading, findings, charts, page."""
