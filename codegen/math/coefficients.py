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
EXP2_F64 = [
    float.fromhex("0x1.62e42fefa39efp-1"),
    float.fromhex("0x1.ebfbdff82c5b3p-3"),
    float.fromhex("0x1.c6b08d704a26fp-5"),
    float.fromhex("0x1.3b2ab6fb9dab5p-7"),
    float.fromhex("0x1.5d87fe7845828p-10"),
    float.fromhex("0x1.430913167f321p-13"),
    float.fromhex("0x1.ffcbfe6628d8dp-17"),
    float.fromhex("0x1.62bfb4a337445p-20"),
    float.fromhex("0x1.b52084d3c5546p-24"),
    float.fromhex("0x1.e63b6c8f8d9cap-28"),
    float.fromhex("0x1.f0df4d3f848cep-32"),
]
EXP2_F32 = [
    float.fromhex("0x1.62e4300000000p-1"),
    float.fromhex("0x1.ebfb940000000p-3"),
    float.fromhex("0x1.c6af9e0000000p-5"),
    float.fromhex("0x1.3b68020000000p-7"),
    float.fromhex("0x1.5ef4e80000000p-10"),
    float.fromhex("0x1.17b7a00000000p-13"),
]
LOG_PAIR_F64 = [
    float.fromhex("0x1.9999999999996p-3"),
    float.fromhex("0x1.2492492492f53p-3"),
    float.fromhex("0x1.c71c71c5962adp-4"),
    float.fromhex("0x1.745d1829945fap-4"),
    float.fromhex("0x1.3b1364b619d0ep-4"),
    float.fromhex("0x1.1120726125851p-4"),
    float.fromhex("0x1.de3ce458e2400p-5"),
    float.fromhex("0x1.eaca95514c611p-5"),
]
LOG_PAIR_F32 = [
    float.fromhex("0x1.9999980000000p-3"),
    float.fromhex("0x1.2493b60000000p-3"),
    float.fromhex("0x1.c63da60000000p-4"),
    float.fromhex("0x1.9084480000000p-4"),
]
SIN_F64 = [
    float.fromhex("-0x1.5555555555549p-3"),
    float.fromhex("0x1.111111110f8a6p-7"),
    float.fromhex("-0x1.a01a019c1611ap-13"),
    float.fromhex("0x1.71de357b0e5d9p-19"),
    float.fromhex("-0x1.ae5e68905855fp-26"),
    float.fromhex("0x1.5d939f3fb9999p-33"),
]
SIN_F32 = [
    float.fromhex("-0x1.5555460000000p-3"),
    float.fromhex("0x1.11077e0000000p-7"),
    float.fromhex("-0x1.9956b40000000p-13"),
]
COS_F64 = [
    float.fromhex("0x1.555555555554cp-5"),
    float.fromhex("-0x1.6c16c16c1521ep-10"),
    float.fromhex("0x1.a01a019cbf398p-16"),
    float.fromhex("-0x1.27e4f8129062bp-22"),
    float.fromhex("0x1.1ee9f13451cdap-29"),
    float.fromhex("-0x1.8fb11f7d6f942p-37"),
]
COS_F32 = [
    float.fromhex("0x1.55554a0000000p-5"),
    float.fromhex("-0x1.6c0c1a0000000p-10"),
    float.fromhex("0x1.99e0f00000000p-16"),
]
SINH_F64 = [
    float.fromhex("0x1.5555555555559p-3"),
    float.fromhex("0x1.111111110f62ap-7"),
    float.fromhex("0x1.a01a01b0206c8p-13"),
    float.fromhex("0x1.71ddf7aeff169p-19"),
    float.fromhex("0x1.af5ff6772443dp-26"),
]
SINH_F32 = [
    float.fromhex("0x1.5554b00000000p-3"),
    float.fromhex("0x1.1227a60000000p-7"),
]
COSH_F64 = [
    float.fromhex("0x1.5555555555558p-5"),
    float.fromhex("0x1.6c16c16c14ffap-10"),
    float.fromhex("0x1.a01a01ad8104ep-16"),
    float.fromhex("0x1.27e4cc09096b2p-22"),
    float.fromhex("0x1.1f8bef1bb9c0dp-29"),
]
COSH_F32 = [
    float.fromhex("0x1.5554e60000000p-5"),
    float.fromhex("0x1.6d4f0e0000000p-10"),
]
ASIN_F64 = [
    float.fromhex("0x1.5555555555578p-3"),
    float.fromhex("0x1.333333332df22p-4"),
    float.fromhex("0x1.6db6db722a7a8p-5"),
    float.fromhex("0x1.f1c71a8c0cf86p-6"),
    float.fromhex("0x1.6e8bdfd8137bfp-6"),
    float.fromhex("0x1.1c49df271ee8fp-6"),
    float.fromhex("0x1.ca21261b6cac0p-7"),
    float.fromhex("0x1.757897e45d71dp-7"),
    float.fromhex("0x1.61847e45f3e4cp-7"),
    float.fromhex("0x1.e1befeeb35c39p-9"),
    float.fromhex("0x1.64e219dbcb042p-6"),
    float.fromhex("-0x1.59c744c9e203ep-6"),
    float.fromhex("0x1.0bd50152af9e4p-5"),
]
ASIN_F32 = [
    float.fromhex("0x1.5555ca0000000p-3"),
    float.fromhex("0x1.33016a0000000p-4"),
    float.fromhex("0x1.748a320000000p-5"),
    float.fromhex("0x1.8bb4cc0000000p-6"),
    float.fromhex("0x1.59cd080000000p-5"),
]
ATAN_F64 = [
    float.fromhex("-0x1.555555555553dp-2"),
    float.fromhex("0x1.9999999995896p-3"),
    float.fromhex("-0x1.24924922aed9cp-3"),
    float.fromhex("0x1.c71c70e6af9f3p-4"),
    float.fromhex("-0x1.745cf8ee638d7p-4"),
    float.fromhex("0x1.3b111a4eda50fp-4"),
    float.fromhex("-0x1.10ebc502cd2c6p-4"),
    float.fromhex("0x1.df0ff56619a9dp-5"),
    float.fromhex("-0x1.9cd571e5be75bp-5"),
    float.fromhex("0x1.37dbc28f14e85p-5"),
    float.fromhex("-0x1.25760fe3bbe2ep-6"),
]
ATAN_F32 = [
    float.fromhex("-0x1.55554a0000000p-2"),
    float.fromhex("0x1.9991e60000000p-3"),
    float.fromhex("-0x1.23ba080000000p-3"),
    float.fromhex("0x1.b22aa80000000p-4"),
    float.fromhex("-0x1.f305640000000p-5"),
]
CBRT_F64 = [
    float.fromhex("0x1.ffc7a3f3edd5ep+0"),
    float.fromhex("-0x1.3e2d923851527p+1"),
    float.fromhex("0x1.655d25c95019fp+1"),
    float.fromhex("-0x1.e5d86d95a18cdp+0"),
    float.fromhex("0x1.66b45dacb86a7p-1"),
    float.fromhex("-0x1.ba84bdf31624ap-4"),
]
CBRT_F32 = [
    float.fromhex("0x1.dfdf4e0000000p+0"),
    float.fromhex("-0x1.dc9c140000000p+0"),
    float.fromhex("0x1.8faa420000000p+0"),
    float.fromhex("-0x1.6795380000000p-1"),
    float.fromhex("0x1.06dcb60000000p-3"),
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
    "EXP2_F64": -56.7,
    "EXP2_F32": -26.3,
    "LOG_PAIR_F64": -73.5,
    "LOG_PAIR_F32": -43.7,
    "SIN_F64": -58.0,
    "SIN_F32": -28.0,
    "COS_F64": -64.2,
    "COS_F32": -33.1,
    "SINH_F64": -61.7,
    "SINH_F32": -26.2,
    "COSH_F64": -70.0,
    "COSH_F32": -33.2,
    "ASIN_F64": -59.8,
    "ASIN_F32": -27.6,
    "ATAN_F64": -59.5,
    "ATAN_F32": -30.5,
    "CBRT_F64": -17.4,
    "CBRT_F32": -14.7,
    "ERF_F64": -56.1,
    "ERF_F32": -29.4,
    "ERFC_LOG_F64": -57.1,
    "ERFC_LOG_F32": -32.7,
    "TANH_P_F64": -60.0,
    "TANH_Q_F64": -60.0,
    "TANH_P_F32": -27.9,
    "TANH_Q_F32": -27.9,
}
