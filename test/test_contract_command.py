"""A command says what the action means, or is refused before the robot moves: no number wraps round in its field."""

import numpy as np
import pytest
import yaml
from contract_samples import ARM, DRIVE, contract, write_bag
from contract_samples import drive_stream as stream
from geometry_msgs.msg import PoseWithCovariance
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Bool, Byte, Float32, Int8, Int16MultiArray, UInt8, UInt64

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.command import Command
from saferule_ros.contract.command_check import check_command
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.field_types import FieldType, fit
from saferule_ros.contract.model import Contract
from saferule_ros.nodes.robot_bridge import message_class

pytestmark = pytest.mark.ros


def commanded(kind: str, fields=("data",), path=DRIVE, **action) -> Contract:
    """The drive with another command of one number in [-1, 1]."""
    content = yaml.safe_load(path.read_text())
    content["action"] = {"topic": "/cmd", "type": f"std_msgs/msg/{kind}", "fields": list(fields), "low": [-1.0],
                         "high": [1.0], "stop": [0.0]} | action  # fmt: skip
    return Contract.model_validate(content)


def filled(message, contract: Contract, action: list[float]):
    """The message after a journey over the wire, and the numbers that `fill` says it holds."""
    command = Command(contract.action)
    written = command.fill(message, command.values(np.array(action)))
    return deserialize_message(serialize_message(message), type(message)), list(written)


@pytest.mark.parametrize(
    ("kind", "action", "what"),
    [
        ("Int8", {"scale": 128.0}, "data would get 128, int8 holds -128 to 127"),
        ("Int8", {"scale": -128.0}, "action's low: data would get 128"),
        ("Int16", {"scale": 32768.0}, "action's high: data would get 32768, int16 holds -32768 to 32767"),
        ("UInt8", {"scale": 100.0}, "action's low: data would get -100, uint8 holds 0 to 255"),
        (
            "UInt64",
            {"scale": 2.0**63, "offset": 2.0**63},
            "action's high: data would get 1.8446744073709552e+19, uint64",
        ),
        ("Byte", {"scale": 300.0, "low": [0.0]}, "octet holds 0 to 255"),
        ("Bool", {"scale": 2.0, "low": [0.0]}, "boolean holds 0 to 1"),
        ("Float32", {"scale": 1e39}, "which float does not hold"),
        ("String", {}, "data is of type string, which is no number"),
        ("Int16MultiArray", {"scale": 40000.0}, "data would get -40000, int16 holds"),
        ("Int8", {"scale": 0.4}, "low and high of action[0] are the same command, 0"),
    ],
)
def test_a_command_that_cannot_say_its_own_range_is_refused_before_the_robot_moves(kind, action, what):
    command = Command(commanded(kind, **action).action)
    with pytest.raises(ContractError) as error:
        check_command(command, message_class(f"std_msgs/msg/{kind}"), serialize_message)
    assert what in str(error.value)


@pytest.mark.parametrize(
    ("kind", "action"),
    [("Int8", {"scale": 127.0}), ("Int16", {"scale": -32767.0}), ("UInt8", {"scale": 127.5, "offset": 127.5}),
     ("Byte", {"scale": 200.0, "low": [0.0]}), ("Bool", {"low": [0.0]}), ("Float64", {}), ("Float32", {"scale": 0.1}),
     ("Int16MultiArray", {"scale": 32767.0}), ("Float64MultiArray", {"fields": ["data[2]"]}),
     ("UInt64", {"scale": 2.0**60, "offset": 2.0**60})],
)  # fmt: skip
def test_a_command_that_can_say_its_whole_range_is_taken(kind, action):
    command = Command(commanded(kind, **action).action)
    check_command(command, message_class(f"std_msgs/msg/{kind}"), serialize_message)


@pytest.mark.parametrize("path", [DRIVE, ARM])
def test_the_commands_of_the_ready_contracts_can_be_said(path):
    about = contract(path).action
    check_command(Command(about), message_class(about.type), serialize_message)


def test_a_command_that_is_read_back_as_another_one_is_refused():
    twice = {"low": [-1.0, -2.0], "high": [1.0, 2.0], "stop": [0.0, 0.0]}
    command = Command(commanded("-", ["linear.x", "linear.x"], type="geometry_msgs/msg/Twist", **twice).action)
    with pytest.raises(ContractError, match=r"low is sent as \[-1.0, -2.0\] and read back as \[-2.0, -2.0\]"):
        check_command(command, message_class("geometry_msgs/msg/Twist"), serialize_message)


def test_numbers_are_rounded_to_the_nearest_integer_and_arrive_as_they_were_written():
    assert filled(Int8(), commanded("Int8", scale=100.0), [0.996])[1] == [100.0], "not cut off to 99"
    message, written = filled(Int8(), commanded("Int8", scale=100.0), [-0.996])
    assert (message.data, written) == (-100, [-100.0])
    assert filled(Bool(), commanded("Bool", low=[0.0]), [0.9])[0].data is True
    assert filled(Bool(), commanded("Bool", low=[0.0]), [0.3])[0].data is False
    assert filled(Byte(), commanded("Byte", scale=200.0, low=[0.0]), [1.0])[0].data == b"\xc8"
    assert filled(UInt64(), commanded("UInt64", scale=2.0**60, low=[0.0]), [1.0])[0].data == 2**60
    message, written = filled(Int16MultiArray(), commanded("Int16MultiArray", ["data[2]"], scale=10.0), [0.26])
    assert (list(message.data), written) == ([0, 0, 3], [3.0])
    assert filled(Float32(), commanded("Float32"), [0.25])[0].data == 0.25


@pytest.mark.parametrize("value", [128, -129, 200, np.inf, np.nan])
def test_what_a_field_does_not_hold_is_refused_at_every_command_too(value):
    with pytest.raises(ContractError, match="int8 holds -128 to 127"):
        Command(commanded("Int8").action).fill(Int8(), np.array([value]))


@pytest.mark.parametrize(
    ("constants", "what"),
    [
        ({"data": 300}, "data would get 300, uint8 holds 0 to 255"),
        ({"data": 1.5}, "constant of data is 1.5, uint8 holds whole numbers"),
        ({"data": [1]}, "constant of data is [1], the field is uint8"),
        ({"date": 1}, "UInt8 has no field 'date'; it has data"),
    ],
)
def test_constants_that_a_field_does_not_hold_are_refused(constants, what):
    command = Command(commanded("UInt8", low=[0.0], constants=constants).action)
    with pytest.raises(ContractError) as error:
        check_command(command, UInt8, serialize_message)
    assert what in str(error.value)


def test_arrays_get_as_many_entries_as_their_type_has():
    pose = {"type": "geometry_msgs/msg/PoseWithCovariance"}
    message, _ = filled(PoseWithCovariance(), commanded("-", ["covariance[35]"], **pose), [0.5])
    assert list(message.covariance) == [0.0] * 35 + [0.5]
    with pytest.raises(ContractError, match="gets 37 entries, double\\[36\\] has exactly 36"):
        filled(PoseWithCovariance(), commanded("-", ["covariance[36]"], **pose), [0.5])
    with pytest.raises(ContractError, match="pose is of type geometry_msgs/Pose, which is no number"):
        filled(PoseWithCovariance(), commanded("-", ["pose"], **pose), [0.5])


def test_bounded_arrays_are_known_by_their_bound():
    class Bounded:  # no package that is installed everywhere has such a field
        @staticmethod
        def get_fields_and_field_types():
            return {"data": "sequence<int16, 3>", "names": "sequence<string<10>>"}

    kind = FieldType.of(Bounded(), "data")
    assert (kind.element, kind.array, kind.whole, kind.most) == ("int16", True, True, 3)
    kind.check_length(3, "data")
    with pytest.raises(ContractError, match="data gets 4 entries, sequence<int16, 3> has at most 3"):
        kind.check_length(4, "data")
    assert not FieldType.of(Bounded(), "names").numeric


def test_types_have_the_same_range_by_both_their_names():
    for generated, written in (("octet", "byte"), ("boolean", "bool"), ("float", "float32"), ("double", "float64")):
        assert fit(1.0, generated, "data") == fit(1.0, written, "data")
        with pytest.raises(ContractError):
            fit(-1e309, written, "data")


@pytest.mark.parametrize(
    ("kind", "fields", "action", "what"),
    [
        ("Int16", ["data"], {"scale": 32768.0}, "data would get 32768, int16 holds -32768 to 32767, for high"),
        ("UInt8", ["data"], {}, "data would get -1, uint8 holds 0 to 255, for low"),
        ("Int8MultiArray", ["data"], {"scale": 128.0}, "data would get 128, int8 holds -128 to 127, for high"),
        ("Int8MultiArray", ["data[0:1]"], {"scale": 128.0}, "would get 128, int8"),
    ],
)
def test_check_tells_it_without_ros_and_with_a_bag(tmp_path, kind, fields, action, what):
    made = commanded(kind, fields, **action)
    (problem,) = check_contract(made).problems
    assert problem.where == "action" and what in problem.what and "Correct scale" in problem.hint
    bag = write_bag(tmp_path / "bag", stream(seconds=0.5))
    assert what in " ".join(problem.what for problem in check_contract(made, bag).problems)
    assert not check_contract(commanded(kind, fields, scale=100.0, low=[0.0])).problems
