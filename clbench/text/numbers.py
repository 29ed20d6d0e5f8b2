"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.26), duration(71), duration(7000), duration(200_000)
    ('0.3 s', '71 s', '1.9 h', '56 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{seconds / 3600:,.0f} h"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(1200), size(3_456_000), size(12_000_000_000)
    ('0.0 MB', '3.5 MB', '12.0 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def flops(count: float) -> str:
    """Floating-point operations for people.

    >>> flops(1.234e9), flops(4.5678e16), flops(12)
    ('1.23 GFLOPs', '45.7 PFLOPs', '1.2e-08 GFLOPs')
    >>> flops(999.7e9), flops(2e21)
    ('1 TFLOPs', '2,000 EFLOPs')
    """
    rounded = float(f"{count:.3g}")  # 999.7 G is 1 T
    scales = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"))
    scale, prefix = next((found for found in scales if rounded >= found[0]), (1e9, "G"))
    if rounded < scale:
        return f"{count / scale:.2g} {prefix}FLOPs"
    digits = ",.0f" if rounded >= 100 * scale else ".3g"
    return f"{rounded / scale:{digits}} {prefix}FLOPs"


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
