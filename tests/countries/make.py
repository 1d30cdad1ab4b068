"""Writes the databases of networks that tests read. Needs the package `mmdb_writer` of PyPI. The networks are those of
documentation (RFC 5737, RFC 3849), and this machine."""

from netaddr import IPSet
from mmdb_writer import MMDBWriter


def write(name, kind, networks):
    writer = MMDBWriter(6, kind, languages=["en"], ipv4_compatible=True)
    for network, record in networks:
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(name)


write("countries.mmdb", "Test-Country", [
    ("203.0.113.0/24", {"country": {"iso_code": "DE", "names": {"en": "Germany"}}}),
    ("198.51.100.0/24", {"country_code": "kr"}),
    ("2001:db8::/32", {"country": {"iso_code": "FR", "names": {"en": "France"}}}),
    ("127.0.0.0/8", {"country": {"iso_code": "US", "names": {"en": "United States"}}}),
    ("192.0.2.0/25", {"continent": {"code": "EU"}}),
    ("192.0.2.128/25", {"country": {"iso_code": "nowhere"}}),
])
write("networks.mmdb", "Test-ASN", [
    ("203.0.113.0/24", {"autonomous_system_number": 64496, "autonomous_system_organization": "Example"}),
])
write("moved.mmdb", "Test-Country", [
    ("198.51.100.0/24", {"country": {"iso_code": "DE", "names": {"en": "Germany"}}}),
])
