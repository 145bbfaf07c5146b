"""Which crops the classifier learns from and is measured on, and why the others are neither.

The table of crops is streamed shard by shard, several times; nothing is sorted or joined as a whole. What stays in
memory are counts by class and the few smallest hashes of each class, so that ten times the crops take hardly more.
"""
