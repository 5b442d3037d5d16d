"""Whole volumes of maps as files, slice by slice through `map_writer`."""

from medjax.data.scans.writer import map_writer


def write_maps(folder, scan, maps, **options):
    with map_writer(folder, scan, names=tuple(maps), **options) as write:
        for z in range(scan.num_slices):
            write({name: values[..., z] for name, values in maps.items()})
