"""Fetch: raw files by name, from the user's hand, the cache, a mirror or the network; always checked.

places     where files may lie: the cache, mirrors, folders searched by official name
checksums  what a file's bytes are, remembered, and whether they are the official ones
parts      the part of a file that has arrived
downloads  one URL to one file, resumed and retried
listings   a mirror's folders, read from the index pages of a web server
store      the cache of downloaded files, one writer a file
members    the files in an archive, read under suspicion
archives   safe unpacking
space      one clear message where the disk is full
unpacked   the cache of unpacked archives
given      a file or folder that the user names (`--from PATH`)
found      a role that is filled, and the frame of the search for it
near       what fills a role without the network
servers    what fills a role over HTTP
roles      `fetch` itself, which brings them together
"""

from fedprep.fetch.archives import unpack
from fedprep.fetch.found import Fetched
from fedprep.fetch.places import find_file, mirrors
from fedprep.fetch.roles import fetch

__all__ = ["Fetched", "fetch", "find_file", "mirrors", "unpack"]
