"""Minimax coefficients, lowest power first. Written by `generate.py`; not for editing by hand."""

EXP_F64 = [
    float.fromhex("0x1.000000000000ap-1"),
    float.fromhex("0x1.5555555555503p-3"),
    float.fromhex("0x1.5555555550606p-5"),
    float.fromhex("0x1.1111111124d64p-7"),
    float.fromhex("0x1.6c16c184b54e5p-10"),
    float.fromhex("0x1.a01a013d3d873p-13"),
    float.fromhex("0x1.a019988d22ab5p-16"),
    float.fromhex("0x1.71def437028c8p-19"),
    float.fromhex("0x1.28aedab64aa95p-22"),
    float.fromhex("0x1.add7d6b0fc28dp-26"),
]
EXP_F32 = [
    float.fromhex("0x1.fffffc0000000p-2"),
    float.fromhex("0x1.55548c0000000p-3"),
    float.fromhex("0x1.5558580000000p-5"),
    float.fromhex("0x1.123de60000000p-7"),
    float.fromhex("0x1.6ac7f40000000p-10"),
]
SIN_PI_F64 = [
    float.fromhex("-0x1.5555555555555p-3"),
    float.fromhex("0x1.11111111110c8p-7"),
    float.fromhex("-0x1.a01a01a014d6ep-13"),
    float.fromhex("0x1.71de3a52a0a20p-19"),
    float.fromhex("-0x1.ae6454d468f22p-26"),
    float.fromhex("0x1.6123cd0329d1ep-33"),
    float.fromhex("-0x1.ae4383076613bp-41"),
    float.fromhex("0x1.883277db75301p-49"),
]
SIN_PI_F32 = [
    float.fromhex("-0x1.55554c0000000p-3"),
    float.fromhex("0x1.110eda0000000p-7"),
    float.fromhex("-0x1.9f70ee0000000p-13"),
    float.fromhex("0x1.5dc8c40000000p-19"),
]
LOG_F64 = [
    float.fromhex("0x1.5555555555593p-1"),
    float.fromhex("0x1.999999997fa01p-2"),
    float.fromhex("0x1.249249422988bp-2"),
    float.fromhex("0x1.c71c51d88735fp-3"),
    float.fromhex("0x1.74664985d9499p-3"),
    float.fromhex("0x1.39a099fc069b7p-3"),
    float.fromhex("0x1.2f11516515b65p-3"),
]
LOG_F32 = [
    float.fromhex("0x1.55557a0000000p-1"),
    float.fromhex("0x1.995ed20000000p-2"),
    float.fromhex("0x1.31e1300000000p-2"),
]
ERF_F64 = [
    float.fromhex("0x1.06eba8214db69p-3"),
    float.fromhex("-0x1.812746b037a27p-2"),
    float.fromhex("0x1.ce2f21a045b8fp-4"),
    float.fromhex("-0x1.b82ce31366581p-6"),
    float.fromhex("0x1.565bcd2faa4acp-8"),
    float.fromhex("-0x1.c02db9e1d7b20p-11"),
    float.fromhex("0x1.f9a3cf95cd037p-14"),
    float.fromhex("-0x1.f4dec420208e7p-17"),
    float.fromhex("0x1.ba822a98b4b76p-20"),
    float.fromhex("-0x1.6471f67768cb5p-23"),
    float.fromhex("0x1.1816b1e3d2d68p-26"),
    float.fromhex("-0x1.e4a38e5bd8aabp-30"),
    float.fromhex("0x1.68453c30e70f4p-33"),
]
ERF_F32 = [
    float.fromhex("0x1.06eba80000000p-3"),
    float.fromhex("-0x1.8127400000000p-2"),
    float.fromhex("0x1.ce2d500000000p-4"),
    float.fromhex("-0x1.b7fe900000000p-6"),
    float.fromhex("0x1.542e100000000p-8"),
    float.fromhex("-0x1.a50b040000000p-11"),
    float.fromhex("0x1.4c342a0000000p-14"),
]
ERFC_LOG_F64 = [
    float.fromhex("0x1.139ddfdc58960p-21"),
    float.fromhex("0x1.20dd1e2aaae33p+0"),
    float.fromhex("0x1.45f635d651fd9p-1"),
    float.fromhex("0x1.a4ab241b59bedp-4"),
    float.fromhex("-0x1.3719823ebd153p-6"),
    float.fromhex("-0x1.b1a98af14f71dp-12"),
    float.fromhex("0x1.f70cbc3d4e4b0p-10"),
    float.fromhex("-0x1.955003454cee9p-11"),
    float.fromhex("0x1.1e69bfc110cdep-13"),
    float.fromhex("0x1.4767b9c3d9c31p-16"),
    float.fromhex("-0x1.79fcbccec54dfp-16"),
    float.fromhex("0x1.1fd327a45f500p-17"),
    float.fromhex("-0x1.1bd06b6cf8485p-19"),
    float.fromhex("0x1.8cc6900fecd16p-22"),
    float.fromhex("-0x1.8a84d89a19eddp-25"),
    float.fromhex("0x1.0b4998696c254p-28"),
    float.fromhex("-0x1.bc38705a765b4p-33"),
    float.fromhex("0x1.564d9e1ce0796p-38"),
]
ERFC_LOG_F32 = [
    float.fromhex("-0x1.8a4e480000000p-13"),
    float.fromhex("0x1.212c0c0000000p+0"),
    float.fromhex("0x1.44356a0000000p-1"),
    float.fromhex("0x1.bc14fa0000000p-4"),
    float.fromhex("-0x1.9d02b00000000p-6"),
    float.fromhex("0x1.138c240000000p-8"),
    float.fromhex("-0x1.cec3a20000000p-12"),
    float.fromhex("0x1.6bd4060000000p-16"),
]
TANH_P_F64 = [
    float.fromhex("-0x1.5555555555555p-2"),
    float.fromhex("-0x1.4fe1074f60ac7p-6"),
    float.fromhex("-0x1.a1dba8baf4e71p-13"),
]
TANH_Q_F64 = [
    float.fromhex("0x1.0000000000000p+0"),
    float.fromhex("0x1.d893caf87bb54p-2"),
    float.fromhex("0x1.7da4083473c0cp-6"),
    float.fromhex("0x1.b14b7924699a1p-13"),
]
TANH_P_F32 = [
    float.fromhex("-0x1.55554e0000000p-2"),
    float.fromhex("-0x1.96cd800000000p-10"),
]
TANH_Q_F32 = [
    float.fromhex("0x1.0000000000000p+0"),
    float.fromhex("0x1.9e5c100000000p-2"),
]

LOG2_ERRORS = {
    "EXP_F64": -57.9,
    "EXP_F32": -28.2,
    "SIN_PI_F64": -61.6,
    "SIN_PI_F32": -27.3,
    "LOG_F64": -59.5,
    "LOG_F32": -30.2,
    "ERF_F64": -56.1,
    "ERF_F32": -29.4,
    "ERFC_LOG_F64": -57.1,
    "ERFC_LOG_F32": -32.7,
    "TANH_P_F64": -60.0,
    "TANH_Q_F64": -60.0,
    "TANH_P_F32": -27.9,
    "TANH_Q_F32": -27.9,
}
