"""Writes cache/verify/word_weights.inc: how much a word says, 0 to 1, learnt from how many topics of
the project's own questions it occurs in. Words of one or two topics are left out: unknown words
weigh 1.   word_weights.py TOOL OUT.inc INTENTS.jsonl ..."""
import collections
import json
import math
import subprocess
import sys


def main():
    tool, out, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    rows = [json.loads(line) for f in files for line in open(f, encoding='utf-8')]
    text = '\n'.join(json.dumps({'q': row['q']}) for row in rows)
    answers = subprocess.run([tool, '--words'], input=text, capture_output=True, text=True, check=True)
    topics = collections.defaultdict(set)
    for row, line in zip(rows, answers.stdout.splitlines()):
        for stem in json.loads(line):
            topics[stem].add(row['topic'])
    total = len({row['topic'] for row in rows})
    with open(out, 'w', encoding='utf-8') as inc:
        inc.write('// Written by tools/fit_similarity/word_weights.py.\n')
        for stem in sorted(topics):
            n = len(topics[stem])
            if n >= 3 and '"' not in stem and '\\' not in stem:
                weight = max(.5, math.log(total / n) / math.log(total / 2))
                inc.write(f'{{"{stem}", {min(1, weight):.2f}f}},\n')


if __name__ == '__main__':
    main()
