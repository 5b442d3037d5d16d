"""Boxes and their overlap, one pair at a time in Python floats."""


def area(box):
    x1, y1, x2, y2 = (float(v) for v in box)
    return (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else 0.0


def iou(a, b):
    if area(a) == 0 or area(b) == 0:
        return 0.0
    common = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    return area(common) / (area(a) + area(b) - area(common))


def giou(a, b):
    if area(a) == 0 or area(b) == 0:
        return -1.0
    common = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    hull = area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    return iou(a, b) - (hull - (area(a) + area(b) - area(common))) / hull
