"""Word counts by regular expression, and a dictionary of what follows what."""

import re
import sys

with open(sys.argv[1], encoding="ascii") as file:
    text = file.read()
count = {}
follows = {}
last = None
for match in re.finditer(r"\b[a-z]+\b", text, re.IGNORECASE):
    word = match.group().lower()
    count[word] = count.get(word, 0) + 1
    follows[last, word] = follows.get((last, word), 0) + 1
    last = word
vowels = re.sub(r"[^aeiou]+", "", text)
for word in sorted(count, key=lambda word: (-count[word], word))[:10]:
    print(word, count[word])
print(len(count), "words,", len(follows), "pairs,", len(vowels), "vowels,", len(text.split()), "in all")
