"""Figures and the report page of a run; the only folder that imports matplotlib."""
