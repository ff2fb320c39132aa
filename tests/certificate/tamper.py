"""`python -m tests.certificate.tamper --count 10000`: tamper with a certificate so often; each must be noticed."""

import argparse
import random
import sys
from collections import Counter

from heimdall.certificate.verdict import verify_certificate
from tests.support.certificates import Tampering


def unnoticed(count: int, seed: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    """How often each way was taken, and (number, way) of those that passed."""
    draw, tampering = random.Random(seed), Tampering()
    ways, passed = Counter[str](), []
    for number in range(count):
        way, document = tampering.any_of_them(draw)
        ways[way] += 1
        is_other = document != tampering.document
        if is_other and verify_certificate(document, keys=[tampering.key.public]).is_good:
            passed.append((number, way))
    return ways, passed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ways, passed = unnoticed(options.count, options.seed)
    for way, times in sorted(ways.items()):
        print(f"  {times:6} times: {way.replace('_', ' ')}")
    print(f"{options.count} tamperings, {len(passed)} not noticed: {passed[:5]}")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
