"""Packet counts of a running DPDK program, by its telemetry socket."""
import json
import socket


class Telemetry:
    def __init__(self, prefix):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.connect(f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2")
            self.socket.recv(16384)
        except OSError:
            self.socket.close()
            raise

    def ask(self, command):
        self.socket.send(command.encode())
        return json.loads(self.socket.recv(16384))[command.split(",")[0]]

    def sent(self, port=0):
        return self.ask(f"/ethdev/stats,{port}")["opackets"]

    def links_up(self, ports):
        return all(self.ask(f"/ethdev/link_status,{port}")["status"].startswith("UP") for port in range(ports))
